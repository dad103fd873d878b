package server

import (
	"crypto/rand"
	"encoding/hex"
)

// newBoot names this run of the node.
func newBoot() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
