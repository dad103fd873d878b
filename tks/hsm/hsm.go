// Package hsm is the narrow view that the key service and the certificate
// authority have of a hardware security module: exactly the calls they make,
// split by role, and nothing that returns a stored key.
//
// Two implementations: tks/hsm/pkcs11 drives a real module, tks/hsm/softkey an
// encrypted key file. Both pass the suite of tks/hsm/hsmtest. The usual calls are
// [Cards.Work] to compute with one card's keys and [Signers.Signer] to sign.
//
// A master key is never bytes here, only a [Master]. What is derived from it
// lives in a [Work] and ends with it. [SelfTest] runs known answers through a
// vault. All interfaces but Work are safe for concurrent use; a Work belongs to
// one goroutine.
package hsm

import (
	"context"
	"crypto"
	"io"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks/kdf"
)

// Vault is what the key service needs of an HSM.
type Vault interface {
	Masters
	Cards
	Randomness
}

// Masters are the master keys of the token.
type Masters interface {
	// Masters lists the master keys, ordered by set, version and slot. Objects
	// whose label and CKA_ID contradict each other make it fail: nobody can say
	// what such a key is for.
	Masters(ctx context.Context) ([]Master, error)
	// GenerateMaster makes a new master key inside. [ErrExists] where the set has
	// that version and slot.
	GenerateMaster(ctx context.Context, id MasterID, t KeyType) (Master, error)
	// ImportMasters stores master keys of known value, all of them or none:
	// [ErrExists] where one of them is there. The values are copied; DES keys get odd
	// parity. Their origin is [Imported].
	ImportMasters(ctx context.Context, keys []MasterValue) ([]Master, error)
	// Protection is what a master key of type t under diversification c gets here
	// (hsm.md §9).
	Protection(c kdf.Code, t KeyType) Protection
}

// Cards computes with the keys of cards.
type Cards interface {
	// Work opens a place for the keys of one request. The caller closes it.
	Work(ctx context.Context) (Work, error)
}

// Randomness is the random generator of the HSM.
type Randomness interface {
	// Random returns n bytes, 1 ≤ n ≤ 1024.
	Random(ctx context.Context, n int) ([]byte, error)
}

// Work holds the keys of one request. Close destroys all of them.
type Work interface {
	KeyMaker
	KeyUser
	io.Closer
}

// Together runs f, which makes several calls of w: where they cost more to begin
// than to make, f has them all at the price of one. After an error that is
// ErrUnavailable a call may hang, and f with it: f leaves what it finds where the
// caller then does not look.
func Together(ctx context.Context, w Work, f func() error) error {
	if t, ok := w.(interface {
		Together(ctx context.Context, f func() error) error
	}); ok {
		return t.Together(ctx, f)
	}
	return f()
}

// KeyMaker brings keys into a Work.
type KeyMaker interface {
	// Derive makes a key from another one: a [Master], or a key of this Work.
	Derive(ctx context.Context, from Key, d kdf.Derivation) (Key, error)
	// Import brings in a key that is no secret of this vault: published test
	// keys, known answers. The value is copied.
	Import(ctx context.Context, t KeyType, value secret.Secret) (Key, error)
}

// KeyUser computes with the keys of a Work.
type KeyUser interface {
	// Encrypt encrypts whole blocks in CBC with IV zero. One block is ECB.
	Encrypt(ctx context.Context, k Key, data []byte) ([]byte, error)
	// CMAC is AES-CMAC, 16 bytes.
	CMAC(ctx context.Context, k Key, data []byte) ([]byte, error)
	// Wrap encrypts the value of k under kek as PUT KEY wants it
	// (GlobalPlatform 2.3.1 §11.8.2.3): a DES kek in ECB; an AES kek in CBC with
	// IV zero, a 24-byte key padded to 32 with arbitrary bytes.
	Wrap(ctx context.Context, kek, k Key) ([]byte, error)
}

// Key is a key inside a vault. Only the vault that made it can use it.
type Key interface{ Type() KeyType }

// Signers are the asymmetric keys of the token: certificate authority, tokens.
type Signers interface {
	// GenerateSigner makes a key pair under a new label; [ErrExists] otherwise.
	GenerateSigner(ctx context.Context, l SignerLabel, a Algorithm) (crypto.Signer, error)
	// Signer finds the key pair of a label; [ErrNotFound]. RSA keys sign PKCS #1
	// v1.5 and PSS over SHA-256, SHA-384 and SHA-512; EC keys ASN.1 ECDSA; Ed25519
	// keys the message itself (RFC 8032, crypto.Hash 0). The
	// signer is usable until the vault is closed and survives reconnects.
	Signer(ctx context.Context, l SignerLabel) (crypto.Signer, error)
	// ImportSigner stores a key pair of known value, an *rsa.PrivateKey,
	// *ecdsa.PrivateKey or ed25519.PrivateKey, under a new label; [ErrExists] otherwise.
	// The key is not retained.
	ImportSigner(ctx context.Context, l SignerLabel, key crypto.Signer) (crypto.Signer, error)
	// DestroySigner ends a key pair for ever; [ErrNotFound]. Its signers fail from then on.
	DestroySigner(ctx context.Context, l SignerLabel) error
}

// CheckValue is the key check value of a key in a Work.
func CheckValue(ctx context.Context, u KeyUser, k Key) (gp.KCV, error) {
	out, err := u.Encrypt(ctx, k, kdf.CheckBlock(k.Type().Cipher()))
	if err != nil {
		return gp.KCV{}, err
	}
	return gp.KCV(out[:3]), nil
}
