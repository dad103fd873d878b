package sealing

// What is known of sealed files.
var (
	DecodeSealed  = decodeSealed
	ReadPINSource = readPINSource
)
