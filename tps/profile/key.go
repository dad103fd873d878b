package profile

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// maxIssuer is how many bytes an applet holds of the issuer's address.
const maxIssuer = 224

// Issuer is the issuer's address for a card, empty where the profile has none: the
// pattern may name $cuid$, $pretty_cuid$, $msn$ and $profileId$. It fails unless
// that is an http or https address of at most 224 bytes.
func (a Applet) Issuer(card map[string]string) (string, error) {
	if a.IssuerURL == "" {
		return "", nil
	}
	text, err := Expand(a.IssuerURL, card)
	if err != nil {
		return "", fmt.Errorf("the issuer's address: %w", err)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(text) > maxIssuer {
		return "", fmt.Errorf("the issuer's address %q: want an http or https address of at most %d bytes", text, maxIssuer)
	}
	return text, nil
}

// keyBits are the sizes of the algorithms a key may have: modulus or field.
var keyBits = map[string]int{
	"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096, "p256": 256, "p384": 384, "p521": 521,
	"ed25519": 256, "x25519": 256,
}

// Bits is the size of the key in bits: of the modulus (RSA) or the field (EC); 0
// for an algorithm that is not known.
func (k Key) Bits() int { return keyBits[k.Alg] }

// anyone is the User of a CoolKey key that needs no PIN.
const anyone = 15

// NeedsPIN reports whether a card uses the private key only after a PIN. Without a
// policy of its own a PIV key has that of its slot: never in 9E, the card
// authentication key (SP 800-73-4 pt 1 table 4), else once or always.
func (k Key) NeedsPIN() bool {
	switch {
	case k.Slot == "":
		return k.User != anyone
	case k.PINPolicy == "":
		return k.Slot != "9E"
	}
	return k.PINPolicy != "never"
}

// EC reports whether the key is on an elliptic curve.
func (k Key) EC() bool { return len(k.Alg) > 0 && k.Alg[0] == 'p' }

// RSA reports whether the key is one of RSA.
func (k Key) RSA() bool { return strings.HasPrefix(k.Alg, "rsa-") }

// Decrypts reports whether a CoolKey key reads messages.
func (k Key) Decrypts() bool {
	return slices.ContainsFunc(k.Private, func(s string) bool { return s == "decrypt" || s == "unwrap" || s == "derive" })
}

// VersionFor is the applet version wanted on a card of a secure channel protocol,
// "SCP03".
func (a Applet) VersionFor(protocol string) string {
	if v, ok := a.ByProtocol[protocol]; ok {
		return v
	}
	return a.Version
}
