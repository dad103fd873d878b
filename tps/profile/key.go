package profile

// keyBits are the sizes of the algorithms a key may have: modulus or field.
var keyBits = map[string]int{
	"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096, "p256": 256, "p384": 384, "p521": 521,
}

// Bits is the size of the key in bits: of the modulus (RSA) or the field (EC); 0
// for an algorithm that is not known.
func (k Key) Bits() int { return keyBits[k.Alg] }

// EC reports whether the key is on an elliptic curve.
func (k Key) EC() bool { return len(k.Alg) > 0 && k.Alg[0] == 'p' }

// VersionFor is the applet version wanted on a card of a secure channel protocol,
// "SCP03".
func (a Applet) VersionFor(protocol string) string {
	if v, ok := a.ByProtocol[protocol]; ok {
		return v
	}
	return a.Version
}
