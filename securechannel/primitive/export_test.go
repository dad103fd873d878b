package primitive

// RetailMACUnpadded is RetailMAC of a message of whole blocks, without padding:
// the form in which the standard's own examples stand.
func RetailMACUnpadded(key, icv, msg []byte) ([]byte, error) {
	return retailMAC(key, icv, [][]byte{msg})
}
