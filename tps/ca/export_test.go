package ca

// SignatureAlgorithm is signatureAlgorithm.
var SignatureAlgorithm = signatureAlgorithm
