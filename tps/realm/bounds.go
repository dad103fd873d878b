package realm

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The decoders of key stores take a file at its word: they make room for what its
// length fields promise, and count as far as it asks. These look before them.

// Tags of entries in a JKS file.
const (
	jksKey         = 1
	jksCertificate = 2
)

// soundJKS reports that every length and count of a JKS file fits into it.
func soundJKS(b []byte) bool {
	s := cryptobyte.String(b)
	var version, entries uint32
	if !s.Skip(len(magicJKS)) || !s.ReadUint32(&version) || !s.ReadUint32(&entries) {
		return false
	}
	for range entries {
		var tag, certificates uint32
		var alias cryptobyte.String
		if !s.ReadUint32(&tag) || !s.ReadUint16LengthPrefixed(&alias) || !s.Skip(8) { // the time it was made
			return false
		}
		switch tag {
		case jksKey:
			if !skipLong(&s) || !s.ReadUint32(&certificates) {
				return false
			}
		case jksCertificate:
			certificates = 1
		default:
			return false
		}
		if uint64(certificates) > uint64(len(s)) {
			return false
		}
		for range certificates {
			var kind cryptobyte.String
			if version > 1 && !s.ReadUint16LengthPrefixed(&kind) || !skipLong(&s) {
				return false
			}
		}
	}
	return true
}

// skipLong passes over bytes behind their length.
func skipLong(s *cryptobyte.String) bool {
	var n uint32
	return s.ReadUint32(&n) && uint64(n) <= uint64(len(*s)) && s.Skip(int(n))
}

// maxDepth is how deep a PKCS #12 file is looked into.
const maxDepth = 32

// costly reports a PKCS #12 file that wants a password hashed more than 2²³ times
// somewhere: a count is the INTEGER behind the OCTET STRING of a salt (RFC 7292
// §4, RFC 8018 appendix A). What the password itself encrypts is not seen.
func costly(der []byte, depth int) bool {
	salt := false
	for s := cryptobyte.String(der); !s.Empty(); {
		var v cryptobyte.String
		var tag asn1.Tag
		if !s.ReadAnyASN1(&v, &tag) {
			return false // no DER: bytes of something else, or the decoder refuses it
		}
		if salt && tag == asn1.INTEGER && len(v) > 3 {
			return true
		}
		salt = tag == asn1.OCTET_STRING
		if (salt || tag&0x20 != 0) && (depth == 0 || costly(v, depth-1)) {
			return true
		}
	}
	return false
}
