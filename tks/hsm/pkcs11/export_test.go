//go:build cgo && !windows

package pkcs11

// PretendNoCMAC makes the present connection do without CKM_AES_CMAC.
func (t *Token) PretendNoCMAC() { t.conn.ways[opCMAC] = byCBC }
