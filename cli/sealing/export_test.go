package sealing

// What is known of sealed files.
var (
	DecodeSealed  = decodeSealed
	ReadPINSource = readPINSource
)

// DiagnoseToken is what the doctor says of a token, and whether he tries its PIN.
func DiagnoseToken(t Token) ([]Finding, bool) {
	var d doctor
	try := d.token(t)
	return d.found, try
}
