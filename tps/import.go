package tps

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Keys that the server makes ([[key]] made = "server"): the pair is made in memory, kept
// in the archive where the profile says so, and imported by the card. The private key is
// in no journal and no record: where nobody knows whether the card has it, the same
// request makes and imports another one, and the one before is of no use to anybody. See
// tps-operations §5.4 and §5.5.

// Importer is the optional ability of a Family to bring keys to its cards that the
// server made. CanImport says whether an applet of that version takes keys; it is asked
// before anything on the card is touched. It is pure.
type Importer interface {
	CanImport(version string) error
}

// Archive keeps private keys that the server made, so that what was encrypted to them
// can be read when the card is gone. Implementations are safe for concurrent use.
type Archive interface {
	// Ready says whether a key can be kept right now.
	Ready(ctx context.Context) error
	// Keep encrypts a private key and stores it, durably before it returns. It is called
	// before the card has the key. Of a key that a cut kept from the card nothing more is
	// heard: no certificate has it. A refusal that is for good is marked with [Final].
	Keep(ctx context.Context, k ArchivedKey) error
}

// ArchivedKey is a key pair for the archive.
type ArchivedKey struct {
	// ID is the identity of the key's certificate request (ca.Request.ID), or what that
	// begins with where it had to be asked for again; every key pair has its own.
	ID      string
	Type    string // of the key, as the profile names it
	Profile token.ProfileName
	CUID    apdu.CUID
	UserID  token.UserID // whose key it is
	Public  crypto.PublicKey
	Private secret.Secret // PKCS #8, DER; the caller's, who wipes it
}

// archiveReady says whether keys can be archived that the profile wants archived.
func (r *run) archiveReady(ctx context.Context) error {
	if !slices.ContainsFunc(r.profile.Key, func(k profile.Key) bool { return k.Archive }) {
		return nil
	}
	if r.e.Archive == nil {
		return refuse(StatusArchiveOff, "profile %s archives keys, and this node has no archive", r.profile.Name)
	}
	if err := r.e.Archive.Ready(ctx); err != nil {
		return fmt.Errorf("keys cannot be archived now: %w", err)
	}
	return nil
}

// mayImport refuses keys that the card would not take, or that could not be archived.
func mayImport(f Facts, prepare bool, h history) error {
	for _, k := range f.Profile.Key {
		if _, kept := f.kept(k, prepare, h); kept || !k.ServerMade() || !f.makes(k, h) {
			continue
		}
		if err := f.canImport(prepare); err != nil {
			return within(StatusEnroll, "", fmt.Errorf("the %s key is made by the server, and the card is left as it is: %w", k.Type, err))
		}
		if k.Archive && f.Ready.Archive != nil {
			return within(StatusEnroll, "", f.Ready.Archive)
		}
	}
	return nil
}

func (f Facts) canImport(prepare bool) error {
	i, ok := f.Family.(Importer)
	if !ok {
		return fmt.Errorf("cards of the family %s take no keys that were made elsewhere", f.Family.Name())
	}
	return i.CanImport(f.appletAfter(prepare))
}

// makeStep is the step that gives the card a new key pair.
func makeStep(k profile.Key) Step {
	if k.ServerMade() {
		return importStep(k)
	}
	return generateStep(k)
}

// importStep makes a key pair and brings it to the card. Its public key is journaled as
// that of a key made on the card is.
func importStep(k profile.Key) Step {
	return Step{Name: StepImportKey.of(k.Type), Kind: Irreversible, Weight: 15, Task: "PROGRESS_KEY_GENERATION",
		Event: "TOKEN_KEY_IMPORT", Fail: StatusEnroll,
		Intent: map[string]string{"alg": k.Alg, "slot": fmt.Sprint(k.PrivateSlot()), "archive": strconv.FormatBool(k.Archive)},
		Do: func(ctx context.Context, r *run) error {
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			res, private, err := r.makePair(k)
			if err != nil {
				return fmt.Errorf("making the key: %w", err)
			}
			defer private.Wipe()
			if err := r.archive(ctx, k, res, private); err != nil {
				return err
			}
			// Point of no return for what the slot held.
			if err := a.ImportKey(ctx, k, private); err != nil {
				return err
			}
			return r.made(k.Type, res)
		}}
}

// archive has a key kept, where the profile wants that.
func (r *run) archive(ctx context.Context, k profile.Key, res KeyResult, private secret.Secret) error {
	if !k.Archive {
		return nil
	}
	err := r.e.Archive.Keep(ctx, ArchivedKey{
		ID: r.pairID(k.Type), Type: k.Type, Profile: r.profile.Name, CUID: r.card.CUID, UserID: r.facts.Holder.ID,
		Public: res.Public, Private: private,
	})
	if err != nil {
		return fmt.Errorf("archiving the key, which the card did not get: %w", err)
	}
	return nil
}

// pairID is the identity of the last key pair of a type: one that is made anew has
// another one, and needs another certificate.
func (r *run) pairID(keyType string) string {
	return fmt.Sprintf("%s/%s/%d", r.journal.ID, keyType, historyOf(&r.journal).timesMade(keyType))
}

// makePair makes a key pair. Possession is proved by a request that the private key
// signs, where it is of a kind that can; the key is Go's until it is encoded, which
// nobody can wipe.
func (r *run) makePair(k profile.Key) (res KeyResult, private secret.Secret, err error) {
	key, err := newPair(k)
	if err != nil {
		return res, private, err
	}
	res.Public = key.Public()
	if _, signs := key.(crypto.Signer); signs {
		about := &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.card.CUID.String()}}
		if res.CSR, err = x509.CreateCertificateRequest(rand.Reader, about, key); err != nil {
			return res, private, err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return res, secret.New(der), err
}

// pair is a private key.
type pair interface{ Public() crypto.PublicKey }

// curves are those of keys that agree on secrets, by their size.
var curves = map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}

func newPair(k profile.Key) (pair, error) {
	switch {
	case k.EC():
		return ecdsa.GenerateKey(curves[k.Bits()], rand.Reader)
	case k.Alg == "x25519":
		return ecdh.X25519().GenerateKey(rand.Reader)
	case k.RSA():
		return rsa.GenerateKey(rand.Reader, k.Bits())
	}
	return nil, errors.New("the server makes no keys of " + k.Alg)
}
