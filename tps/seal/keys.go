package seal

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"inkan/apdu/secret"
)

// WrappingKey is an AES-256 key that stays where it is: in an HSM, or in the
// encrypted key file. Its errors are [*Error] where they have a code. It is safe
// for concurrent use.
type WrappingKey interface {
	Describe() KeyDescription
	// Wrap encrypts a data key of 32 bytes. A mechanism with associated data binds
	// it to aad; the others ignore aad.
	Wrap(ctx context.Context, dataKey secret.Secret, aad []byte) (Wrapped, error)
	// Unwrap is the opposite. The caller wipes the result.
	Unwrap(ctx context.Context, w Wrapped, aad []byte) (secret.Secret, error)
}

// KeyDescription says which key it is.
type KeyDescription struct {
	Kind   Kind // KindPKCS11, KindKeyFile or KindCredential
	Label  string
	ID     []byte // CKA_ID
	KCV    []byte // 3 bytes, AES of a zero block; nil where the key does not permit it
	Token  string
	Serial string
}

// Wrapped is a data key under a wrapping key.
type Wrapped struct {
	Mechanism uint32
	Nonce     []byte // as the HSM returned it
	Data      []byte
}

// Keys finds wrapping keys: a token, a key file.
type Keys interface {
	// Key finds the key that a slot names by its label and CKA_ID. An absent one is
	// an [*Error] of code KeyMissing.
	Key(ctx context.Context, label string, id []byte) (WrappingKey, error)
}

// Protector fills key slots of a file that is being written.
type Protector interface {
	// protect wraps the data key of h in slot n.
	protect(ctx context.Context, h *Header, n uint8, dataKey secret.Secret) (Slot, error)
	// verify proves that the slot gives the data key back, as far as it can without
	// the recovery secret.
	verify(ctx context.Context, f *File, s Slot, dataKey secret.Secret) error
}

// Opener opens key slots.
type Opener interface {
	// open returns the data key; ok is false where the slot is not for this opener.
	open(ctx context.Context, f *File, s Slot) (dataKey secret.Secret, ok bool, err error)
}

// Under protects with a wrapping key.
func Under(k WrappingKey) Protector { return underKey{k} }

type underKey struct{ k WrappingKey }

func (u underKey) protect(ctx context.Context, h *Header, n uint8, dataKey secret.Secret) (Slot, error) {
	w, err := u.k.Wrap(ctx, dataKey, h.binding(n))
	if err != nil {
		return Slot{}, err
	}
	d := u.k.Describe()
	return Slot{Number: n, Kind: d.Kind, Mechanism: w.Mechanism, Label: d.Label, ID: d.ID, KCV: d.KCV,
		Token: d.Token, Serial: d.Serial, nonce: w.Nonce, wrapped: w.Data}, nil
}

func (u underKey) verify(ctx context.Context, f *File, s Slot, dataKey secret.Secret) error {
	got, err := unwrap(ctx, u.k, f, s)
	if err != nil {
		return err
	}
	defer got.Wipe()
	if !got.Equal(dataKey) {
		return refuse(WrongKey, f.Role, "key %s does not give back what it was given", s.Label)
	}
	return nil
}

// With opens the slots of wrapping keys that keys finds.
func With(keys Keys) Opener { return fromKeys{keys} }

type fromKeys struct{ keys Keys }

func (o fromKeys) open(ctx context.Context, f *File, s Slot) (secret.Secret, bool, error) {
	if s.Kind != KindPKCS11 && s.Kind != KindKeyFile && s.Kind != KindCredential {
		return secret.Secret{}, false, nil
	}
	if only, ok := o.keys.(*CredentialKey); ok != (s.Kind == KindCredential) || ok && only.name != s.Label {
		return secret.Secret{}, false, nil
	}
	k, err := o.keys.Key(ctx, s.Label, s.ID)
	if err != nil {
		return secret.Secret{}, true, err
	}
	if k.Describe().Kind != s.Kind {
		return secret.Secret{}, false, nil
	}
	dataKey, err := unwrap(ctx, k, f, s)
	return dataKey, true, err
}

// unwrap opens a slot and finds out why where it cannot.
func unwrap(ctx context.Context, k WrappingKey, f *File, s Slot) (secret.Secret, error) {
	d := k.Describe()
	if len(s.KCV) > 0 && len(d.KCV) > 0 && !bytes.Equal(s.KCV, d.KCV) {
		return secret.Secret{}, refuse(WrongKey, f.Role, "key %s has check value %X, the file wants %X (token %q, serial %s)", d.Label, d.KCV, s.KCV, s.Token, s.Serial)
	}
	dataKey, err := k.Unwrap(ctx, Wrapped{Mechanism: s.Mechanism, Nonce: s.nonce, Data: s.wrapped}, f.binding(s.Number))
	if err == nil {
		return dataKey, nil
	}
	if CodeOf(err) != "" {
		return secret.Secret{}, err
	}
	if sick := Probe(ctx, k); sick != nil {
		return secret.Secret{}, sick
	}
	if len(s.KCV) > 0 && len(d.KCV) > 0 {
		return secret.Secret{}, refuse(Tampered, f.Role, "the key is right and works, slot %d of generation %d was altered: %v", s.Number, f.Generation, err)
	}
	return secret.Secret{}, refuse(WrongKey, f.Role, "the file is whole, key %s does not open slot %d: %v", d.Label, s.Number, err)
}

// Probe wraps and unwraps a random data key: whether the HSM does its work.
func Probe(ctx context.Context, k WrappingKey) error {
	canary := secret.Random(dataKeySize)
	defer canary.Wipe()
	aad := secret.Random(32).Bytes()
	w, err := k.Wrap(ctx, canary, aad)
	if err != nil {
		return coded(HSMUnreachable, fmt.Errorf("trying key %s: %w", k.Describe().Label, err))
	}
	back, err := k.Unwrap(ctx, w, aad)
	if err != nil {
		return coded(HSMUnreachable, fmt.Errorf("trying key %s: %w", k.Describe().Label, err))
	}
	defer back.Wipe()
	if subtle.ConstantTimeCompare(back.Bytes(), canary.Bytes()) != 1 {
		return &Error{Code: Mechanism, Cause: fmt.Errorf("key %s does not give back what it was given", k.Describe().Label)}
	}
	return nil
}

// coded gives an error without a code this one.
func coded(c Code, err error) error {
	if err == nil || CodeOf(err) != "" {
		return err
	}
	return &Error{Code: c, Cause: err}
}

// openSlots tries the slots of a file until one opens.
func openSlots(ctx context.Context, f *File, openers []Opener) (secret.Secret, Slot, error) {
	var errs []error
	for _, o := range openers {
		for _, s := range f.Slots {
			dataKey, ok, err := o.open(ctx, f, s)
			if ok && err == nil {
				return dataKey, s, nil
			}
			if ok {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return secret.Secret{}, Slot{}, worst(f.Role, errs)
	}
	var has []string
	for _, s := range f.Slots {
		has = append(has, s.String())
	}
	return secret.Secret{}, Slot{}, refuse(KeyMissing, f.Role, "no key here is for one of its slots %q", has)
}

// worst chooses the error that says most: one that is no missing key. It names the
// role.
func worst(r Role, errs []error) error {
	best := errs[0]
	for _, err := range errs {
		if CodeOf(best) == KeyMissing && CodeOf(err) != KeyMissing {
			best = err
		}
	}
	var e *Error
	if errors.As(best, &e) && e.Role == "" {
		named := *e
		named.Role = r
		return &named
	}
	return best
}
