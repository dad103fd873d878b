package ca

// FormatDN is formatDN.
var FormatDN = formatDN

// SignatureAlgorithm is signatureAlgorithm.
var SignatureAlgorithm = signatureAlgorithm
