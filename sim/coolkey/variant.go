package coolkey

import (
	"fmt"

	ck "inkan/apdu/coolkey"
)

// Variant names the behaviour of an applet, as card models do.
type Variant string

// Variants. Applet13 is 1.3.44724dde (RSA 1024), Applet14 1.4.58768072 (RSA
// 2048), Applet15 1.5.65cbf5a6 (RSA 4096, AES import). Extended is ours: 1.5 with
// elliptic curves and plain import.
const (
	Applet13 Variant = "1.3"
	Applet14 Variant = "1.4"
	Applet15 Variant = "1.5"
	Extended Variant = "extended"
)

// ParseVariant checks the name of a variant; "" is Extended.
func ParseVariant(s string) (Variant, error) {
	v := Variant(s).orDefault()
	if _, ok := variants[v]; !ok {
		return "", fmt.Errorf("unknown CoolKey variant %q", s)
	}
	return v, nil
}

func (v Variant) orDefault() Variant {
	if v == "" {
		return Extended
	}
	return v
}

// feature is a set of differences between the variants.
type feature uint16

const (
	tellsTries     feature = 1 << iota // INS 4A
	clearsSlots                        // INS 55
	nonceAtLogout                      // INS 61 is in the nonce set
	ellipticCurves                     // INS 0D, 37, 38
	aesImport                          // algorithms 88 and 89
	checksKey                          // the key check of an import is verified
	demandsMAC                         // class 84 without C-MAC is 6982
	rsaByName                          // key generation takes algorithm 80 only
	importStub                         // INS 32 does nothing
	rmacLevels                         // channels with response protection
)

// traits are the limits of a variant (coolkey-applet.md §14.3).
type traits struct {
	version  ck.Version
	keySlots int
	ioBuffer int // bytes
	maxRSA   int // bits
	features feature
}

func (t traits) has(f feature) bool { return t.features&f == f }

const since15 = tellsTries | clearsSlots | aesImport | checksKey | demandsMAC | rsaByName | rmacLevels

var variants = map[Variant]traits{
	Applet13: {
		version:  ck.Version{Major: 1, Minor: 3, Build: 0x44724DDE},
		keySlots: 8, ioBuffer: 554, maxRSA: 1024, features: nonceAtLogout,
	},
	Applet14: {
		version:  ck.Version{Major: 1, Minor: 4, Build: 0x58768072},
		keySlots: 24, ioBuffer: 900, maxRSA: 2048, features: tellsTries | clearsSlots,
	},
	Applet15: {
		version:  ck.Version{Major: 1, Minor: 5, Build: 0x65CBF5A6},
		keySlots: 24, ioBuffer: 1200, maxRSA: 4096, features: since15 | importStub,
	},
	Extended: {
		version:  ck.Version{Major: 1, Minor: 6, Build: 0x66000001},
		keySlots: 24, ioBuffer: 1200, maxRSA: 4096, features: since15 | ellipticCurves,
	},
}
