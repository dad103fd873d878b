package realm

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ID names a key record: a UUID of version 7.
type ID string

// State is what a key is used for.
type State string

// States. A key goes down the list; Passive and Disabled ones may go up again.
const (
	Pending  State = "pending"  // published, takes over at ActivateAt; verifies
	Active   State = "active"   // signs where it has the highest priority; verifies
	Passive  State = "passive"  // verifies
	Disabled State = "disabled" // nothing
	Deleted  State = "deleted"  // nothing, and its private half is gone
)

// verifies reports whether signatures of a key in this state count.
func (s State) verifies() bool { return s == Pending || s == Active || s == Passive }

// Provider is where a key came from.
type Provider string

// Providers.
const (
	Generated Provider = "generated"     // made in the vault
	PEM       Provider = "pem"           // uploaded
	Keystore  Provider = "java-keystore" // taken out of a JKS or PKCS #12 file
	PKCS11    Provider = "pkcs11"        // was in the HSM before
)

// Algorithm is a JWS algorithm (RFC 7518 §3.1, RFC 8037).
type Algorithm string

// Algorithms.
const (
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	EdDSA Algorithm = "EdDSA"
)

// Algorithms lists all of them.
func Algorithms() []Algorithm {
	return []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA}
}

// ParseAlgorithm reads the name of an algorithm.
func ParseAlgorithm(s string) (Algorithm, error) {
	if !slices.Contains(Algorithms(), Algorithm(s)) {
		return "", fmt.Errorf("algorithm %q is none of %v: %w", s, Algorithms(), ErrInput)
	}
	return Algorithm(s), nil
}

func (a Algorithm) rsa() bool {
	return strings.HasPrefix(string(a), "RS") || strings.HasPrefix(string(a), "PS")
}

// hash is what is signed: zero for EdDSA, which signs messages.
func (a Algorithm) hash() crypto.Hash {
	switch {
	case strings.HasSuffix(string(a), "256"):
		return crypto.SHA256
	case strings.HasSuffix(string(a), "384"):
		return crypto.SHA384
	case strings.HasSuffix(string(a), "512"):
		return crypto.SHA512
	}
	return 0
}

// Kind is the kind and length of a key pair: rsa-3072, ec-p256, ed25519.
type Kind string

// defaultBits is the length of generated RSA keys.
const defaultBits = 3072

// kindFor is the kind of key that an algorithm takes; bits of RSA, 0 = the default.
func kindFor(a Algorithm, bits int) (Kind, error) {
	if a.rsa() {
		if bits == 0 {
			bits = defaultBits
		}
		if bits != 2048 && bits != 3072 && bits != 4096 {
			return "", fmt.Errorf("RSA key of %d bits: want 2048, 3072 or 4096: %w", bits, ErrInput)
		}
		return Kind("rsa-" + strconv.Itoa(bits)), nil
	}
	if bits != 0 {
		return "", fmt.Errorf("the size of a %s key is not to be chosen: %w", a, ErrInput)
	}
	return map[Algorithm]Kind{ES256: "ec-p256", ES384: "ec-p384", ES512: "ec-p521", EdDSA: "ed25519"}[a], nil
}

// fits checks that a public key can be used with an algorithm.
func (a Algorithm) fits(pub crypto.PublicKey) error {
	var have string
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("RSA key of %d bits: want 2048 to 4096: %w", n, ErrInput)
		}
		if a.rsa() {
			return nil
		}
		have = "an RSA key"
	case *ecdsa.PublicKey:
		if want, err := kindFor(a, 0); err == nil && want == Kind("ec-p"+strconv.Itoa(k.Curve.Params().BitSize)) {
			return nil
		}
		have = "a key on " + k.Curve.Params().Name
	case ed25519.PublicKey:
		if a == EdDSA {
			return nil
		}
		have = "an Ed25519 key"
	default:
		have = fmt.Sprintf("a %T", pub)
	}
	return fmt.Errorf("%s signs with another algorithm than %s: %w", have, a, ErrInput)
}

// usual is the algorithm of a key where nobody says which.
func usual(pub crypto.PublicKey) Algorithm {
	for _, a := range []Algorithm{RS256, ES256, ES384, ES512, EdDSA} {
		if a.fits(pub) == nil {
			return a
		}
	}
	return ""
}

// Key is the record of a signing key. It has no private part.
type Key struct {
	ID        ID
	Name      string
	Algorithm Algorithm
	Provider  Provider
	Use       Use
	Priority  int64
	State     State
	KID       string   // base64url(SHA-256(SubjectPublicKeyInfo))
	Public    []byte   // SubjectPublicKeyInfo, DER
	Chain     [][]byte // certificates, DER, that of the key first
	// Material names the private half in the vault; empty: it is gone.
	Material string
	// Node is the one whose key file has the private half; empty: it is where all nodes
	// reach it.
	Node        string
	Predecessor ID
	Created     time.Time
	ActivateAt  time.Time // of a pending key
	Activated   time.Time
	PassiveAt   time.Time
	DisabledAt  time.Time
	DeletedAt   time.Time
	// Compromised is when the key was given up as known to others.
	Compromised time.Time
	// Scheduled: the policy made the state what it is, and goes on with it.
	Scheduled bool
	Revision  int64
}

// PublicKey decodes the public half.
func (k Key) PublicKey() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("decoding the public key of %s: %w", k.ID, err)
	}
	return pub, nil
}

// kidOf is base64url(SHA-256(SubjectPublicKeyInfo)) without padding.
func kidOf(spki []byte) string {
	sum := sha256.Sum256(spki)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Compare orders keys as they are chosen: by priority, highest first, then by id.
func Compare(a, b Key) int {
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

// signing is the key of a use that signs with the first of the algorithms that has
// one: the first active one.
func signing(keys []Key, u Use, algorithms ...Algorithm) (Key, error) {
	sorted := slices.SortedFunc(slices.Values(keys), Compare)
	for _, a := range algorithms {
		for _, k := range sorted {
			if k.State == Active && k.Use == u && k.Algorithm == a {
				return k, nil
			}
		}
	}
	return Key{}, fmt.Errorf("%w for %s (use %s): inkan realm add --use %[3]s --algorithm %[2]s makes one", ErrNoKey, algorithms[0], u)
}

// Signs reports whether k is the one of keys that signs with its use and algorithm,
// on the node that has it.
func Signs(keys []Key, k Key) bool {
	s, err := signing(reachable(keys, k.Node), k.Use, k.Algorithm)
	return err == nil && s.ID == k.ID
}

// verifying is the key that a signature names, if it still counts.
func verifying(keys []Key, kid string, u Use, a Algorithm) (Key, error) {
	for _, k := range keys {
		if k.KID == kid && k.Use == u && k.Algorithm == a && k.State.verifies() {
			return k, nil
		}
	}
	return Key{}, fmt.Errorf("signed by a key that is not known or no longer counts: %w", ErrToken)
}

func (k Key) jose() jose.SignatureAlgorithm { return jose.SignatureAlgorithm(k.Algorithm) }
