package hsm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"inkan/apdu/secret"
)

// Wrappers are AES-256 keys that encrypt other keys: the data keys of sealed
// configuration. One belongs to one server instance and never leaves the token.
type Wrappers interface {
	// GenerateWrapper makes a key inside, for the first mechanism that passes its
	// known answers; a [*MechanismError] where none does, [ErrExists] where the key is
	// there.
	GenerateWrapper(ctx context.Context, id WrapperID) (Wrapper, error)
	// Wrapper finds a key; [ErrNotFound].
	Wrapper(ctx context.Context, id WrapperID) (Wrapper, error)
	// Wrappers lists the keys there are, of all instances, by label.
	Wrappers(ctx context.Context) ([]WrapperID, error)
	// DestroyWrapper removes a key for ever; [ErrNotFound].
	DestroyWrapper(ctx context.Context, id WrapperID) error
}

// Wrapper is a key of [Wrappers]. It is usable until the vault is closed and
// survives reconnects.
type Wrapper interface {
	Info() WrapperInfo
	// Wrap encrypts a key of 32 bytes. CKM_AES_GCM binds it to aad, key wrapping
	// ignores aad.
	Wrap(ctx context.Context, key secret.Secret, aad []byte) (WrappedKey, error)
	// Unwrap is the opposite. The caller wipes the result.
	Unwrap(ctx context.Context, w WrappedKey, aad []byte) (secret.Secret, error)
}

// WrapperInfo says which key it is, and where.
type WrapperInfo struct {
	ID     WrapperID
	KCV    []byte // 3 bytes, AES of a zero block; nil where the key does not permit that
	Token  string // label; empty for the key file
	Serial string
}

// WrappedKey is a key under a Wrapper.
type WrappedKey struct {
	Mechanism uint32 // one of the constants
	Nonce     []byte // as the token returned it; nil for key wrapping
	Data      []byte
}

// Mechanisms of wrapped keys. Key wrapping has numbers of its own: CKM 210A means
// another thing in every second token, so a known answer decides (hsm.md §7).
const (
	WrapGCM uint32 = 0x00001087 // CKM_AES_GCM, nonce of 12 bytes, tag of 16
	WrapKWP uint32 = 0x80010001 // RFC 5649
	WrapKW  uint32 = 0x80010002 // RFC 3394
)

// WrapperKeySize is the length of what a Wrapper wraps, in bytes.
const WrapperKeySize = 32

// WrapperID names a wrapping key: the first bytes of the instance's id, and which
// of its keys.
type WrapperID struct {
	Instance [4]byte
	Version  uint8 // from 1
}

// roleSeal is the first byte of a wrapping key's CKA_ID.
const roleSeal = 'S'

// Label is tms:seal:IIIIIIII:vNN, both in lower-case hexadecimal.
func (w WrapperID) Label() string { return fmt.Sprintf("tms:seal:%x:v%02x", w.Instance, w.Version) }

// ID is the CKA_ID: role 'S', instance, version, two zeros (hsm.md §6).
func (w WrapperID) ID() [8]byte {
	return [8]byte{roleSeal, w.Instance[0], w.Instance[1], w.Instance[2], w.Instance[3], w.Version}
}

// Check reports whether a key may have this identity.
func (w WrapperID) Check() error {
	if w.Version == 0 {
		return errors.New("a wrapping key's version is 01 to FF")
	}
	return nil
}

var wrapperLabel = regexp.MustCompile(`^tms:seal:([0-9a-f]{8}):v([0-9a-f]{2})$`)

// ParseWrapperLabel reads a label.
func ParseWrapperLabel(label string) (WrapperID, error) {
	m := wrapperLabel.FindStringSubmatch(label)
	if m == nil {
		return WrapperID{}, fmt.Errorf("label %q is not of the form tms:seal:IIIIIIII:vNN", label)
	}
	var w WrapperID
	instance, err := hex.DecodeString(m[1])
	if err != nil {
		return w, err
	}
	v, err := strconv.ParseUint(m[2], 16, 8)
	if err != nil {
		return w, err
	}
	w.Instance, w.Version = [4]byte(instance), uint8(v)
	return w, w.Check()
}

// ParseWrapperID reads label and CKA_ID, which have to say the same.
func ParseWrapperID(label string, id []byte) (WrapperID, error) {
	w, err := ParseWrapperLabel(label)
	if err != nil {
		return w, err
	}
	if want := w.ID(); !bytes.Equal(want[:], id) {
		return WrapperID{}, fmt.Errorf("wrapping key %q: CKA_ID %X does not belong to this label", label, id)
	}
	return w, nil
}

// CompareWrappers orders by label.
func CompareWrappers(a, b WrapperID) int {
	if c := bytes.Compare(a.Instance[:], b.Instance[:]); c != 0 {
		return c
	}
	return int(a.Version) - int(b.Version)
}

// Counters are numbers that only who is logged in to the token can change: what
// tells an old copy of a file from the newest one.
type Counters interface {
	// Counter is 0 where there is none.
	Counter(ctx context.Context, l CounterLabel) (uint64, error)
	SetCounter(ctx context.Context, l CounterLabel, v uint64) error
	// DeleteCounter removes it; that there is none is no error.
	DeleteCounter(ctx context.Context, l CounterLabel) error
}

// CounterLabel names a counter: tms:sealgen:IIIIIIII:ROLE.
type CounterLabel string

var counterLabel = regexp.MustCompile(`^tms:sealgen:[0-9a-f]{8}:[a-z0-9._-]{1,64}$`)

// Check reports whether the label has that form.
func (l CounterLabel) Check() error {
	if !counterLabel.MatchString(string(l)) {
		return fmt.Errorf("label %q is not of the form tms:sealgen:IIIIIIII:ROLE", string(l))
	}
	return nil
}
