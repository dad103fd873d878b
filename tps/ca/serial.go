package ca

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
)

// ParseSerial reads a serial number in hexadecimal of either letter case, at
// most 20 bytes (RFC 5280 §4.1.2.2), leading zeros ignored.
func ParseSerial(s string) (Serial, error) {
	n, err := Serial(s).number()
	if err != nil {
		return "", err
	}
	return serialOf(n), nil
}

func serialOf(n *big.Int) Serial { return Serial(strings.ToUpper(n.Text(16))) }

func (s Serial) number() (*big.Int, error) {
	n, ok := new(big.Int).SetString(string(s), 16)
	if !ok || strings.ContainsAny(string(s), "+-") || len(n.Bytes()) > 20 || n.Sign() == 0 {
		return nil, fmt.Errorf("malformed serial number of %d characters", len(s))
	}
	return n, nil
}

// newSerial draws 126 random bits. The first two bits are 01, so that every
// serial number is positive, 16 bytes and 32 digits long.
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	b[0] = b[0]&0x3F | 0x40
	return new(big.Int).SetBytes(b[:])
}
