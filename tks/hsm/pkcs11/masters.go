//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/gp"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// masterHandle is a master key of one connection.
type masterHandle struct {
	o      p11.ObjectHandle
	derive way
	mask   atomic.Pointer[[16]byte]
}

// maxObjects bounds what is looked through on a token.
const maxObjects = 10_000

// master finds the handle of a master key, and its CMAC term, once per connection.
func (s *session) master(ctx context.Context, m hsm.Master) (*masterHandle, error) {
	s.c.mu.Lock()
	h := s.c.masters[m.MasterID]
	s.c.mu.Unlock()
	if h != nil {
		return h, nil
	}
	id := m.ID()
	h, err := do(ctx, s, "finding a master key", func(r raw) (*masterHandle, error) {
		found, err := r.find(1, attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_TOKEN, true),
			attr(p11.CKA_LABEL, m.Label()), attr(p11.CKA_ID, id[:]))
		if err != nil || len(found) == 0 {
			return nil, err
		}
		return s.c.examine(r, found[0], m.Kind)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Label(), err)
	}
	if h == nil {
		return nil, s.notFound(ctx, m.Label())
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.masters[m.MasterID] = h
	return h, nil
}

// notFound tells a key that is not there from a token that is not: both look the
// same to a search.
func (s *session) notFound(ctx context.Context, label string) error {
	if !s.alive() {
		s.t.lost(ctx, s.c, errors.New("the token does not answer"))
		return fmt.Errorf("finding %s: token %s does not answer: %w", label, s.c.name(), hsm.ErrUnavailable)
	}
	return fmt.Errorf("%s in token %s: %w", label, s.c.name(), hsm.ErrNotFound)
}

// examine decides how a key can be used by its attributes, whoever made it.
func (c *conn) examine(r raw, o p11.ObjectHandle, t hsm.KeyType) (*masterHandle, error) {
	a, err := r.attributes(o, p11.CKA_DERIVE, p11.CKA_ENCRYPT, p11.CKA_SIGN, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	if kind, err := kindOf(r, o, a[p11.CKA_KEY_TYPE]); err != nil || kind != t {
		return nil, errors.Join(fmt.Errorf("it is of type %v, not %v", kind, t), err)
	}
	h := &masterHandle{o: o, derive: c.wayOf(t.Cipher(), a)}
	if h.derive == inside && t.Cipher() == kdf.AES {
		zero, err := r.bytes(kdf.AES, o, make([]byte, 16))
		if err != nil {
			return nil, err
		}
		k1 := double([16]byte(zero))
		clear(zero)
		h.mask.Store(&k1)
	}
	return h, nil
}

func (c *conn) wayOf(cipher kdf.Cipher, a map[uint][]byte) way {
	switch {
	case cipher == kdf.HMAC:
		if is(a[p11.CKA_SIGN]) {
			return c.ways[opDerive.with(cipher)]
		}
	case is(a[p11.CKA_DERIVE]) && c.ways[opDerive.with(cipher)] == inside:
		return inside
	case is(a[p11.CKA_ENCRYPT]) && c.ways[opEncrypt.with(cipher)] != 0:
		return memory
	}
	return 0
}

// Masters implements hsm.Masters.
func (t *Token) Masters(ctx context.Context) ([]hsm.Master, error) {
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing master keys: %w", err)
	}
	defer s.giveBack()
	out, err := do(ctx, s, "listing master keys", s.c.list)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 && !s.alive() { // an empty token looks the same
		return nil, s.notFound(ctx, "master keys")
	}
	slices.SortFunc(out, hsm.CompareMasters)
	return out, nil
}

func (c *conn) list(r raw) ([]hsm.Master, error) {
	objects, err := r.find(maxObjects, attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_TOKEN, true))
	if err != nil {
		return nil, err
	}
	var out []hsm.Master
	seen := map[hsm.MasterID]bool{}
	for _, o := range objects {
		m, ok, err := c.describe(r, o)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if seen[m.MasterID] {
			return nil, fmt.Errorf("token %s has two keys %s: delete the one that is not to be", c.name(), m.Label())
		}
		seen[m.MasterID] = true
		out = append(out, m)
	}
	return out, nil
}

// describe reads one object; ok is false where it is no card master key.
func (c *conn) describe(r raw, o p11.ObjectHandle) (m hsm.Master, ok bool, err error) {
	a, err := r.attributes(o, p11.CKA_LABEL, p11.CKA_ID, p11.CKA_KEY_TYPE)
	if err != nil || !hsm.IsMasterLabel(string(a[p11.CKA_LABEL])) {
		return m, false, err
	}
	if m.MasterID, err = hsm.ParseMasterID(string(a[p11.CKA_LABEL]), a[p11.CKA_ID]); err != nil {
		return m, false, err
	}
	if m.Kind, err = kindOf(r, o, a[p11.CKA_KEY_TYPE]); err != nil {
		return m, false, fmt.Errorf("master key %s: %w", m.Label(), err)
	}
	if err := c.origin(r, o, &m); err != nil {
		return m, false, err
	}
	kcv, err := c.checkValue(r, o, m.Kind)
	if err != nil {
		return m, false, fmt.Errorf("computing the check value of %s: %w", m.Label(), err)
	}
	m.KCV = kcv
	return m, true, nil
}

// errNoLength: a key of open length is of no use where it cannot be had.
var errNoLength = errors.New("the token does not tell the key's length (CKA_VALUE_LEN)")

func kindOf(r raw, o p11.ObjectHandle, keyType []byte) (hsm.KeyType, error) {
	kt, err := ulong(keyType)
	if err != nil {
		return 0, err
	}
	switch kt {
	case p11.CKK_DES2:
		return hsm.DES2, nil
	case p11.CKK_DES3:
		return hsm.DES3, nil
	case p11.CKK_AES:
		n, err := lengthOf(r, o)
		if err != nil {
			return 0, err
		}
		return hsm.KeyTypeOf(kdf.AES, n)
	case p11.CKK_GENERIC_SECRET:
		n, err := lengthOf(r, o)
		if errors.Is(err, errNoLength) { // HMAC does not depend on it
			return hsm.HMACKey, nil
		}
		if err != nil {
			return 0, err
		}
		return hsm.KeyTypeOf(kdf.HMAC, n)
	}
	return 0, fmt.Errorf("CKA_KEY_TYPE %X is not AES, DES2, DES3 or GENERIC_SECRET", kt)
}

// lengthOf is the length of a key whose type leaves it open; errNoLength.
func lengthOf(r raw, o p11.ObjectHandle) (int, error) {
	a, err := r.attributes(o, p11.CKA_VALUE_LEN)
	if isRV(err, p11.CKR_ATTRIBUTE_TYPE_INVALID) {
		return 0, errNoLength
	}
	if err != nil {
		return 0, err
	}
	n, err := ulong(a[p11.CKA_VALUE_LEN])
	if err == nil && n == 0 {
		err = errNoLength
	}
	return int(n), err
}

// origin fills in level, origin and date.
func (c *conn) origin(r raw, o p11.ObjectHandle, m *hsm.Master) error {
	a, err := r.attributes(o, append(rights(), p11.CKA_LOCAL)...)
	if err != nil {
		return err
	}
	m.Origin = hsm.Imported
	if is(a[p11.CKA_LOCAL]) {
		m.Origin = hsm.Generated
	}
	m.Created = created(r, o)
	m.Protection = c.protection(m.KDF, m.Kind, c.wayOf(m.Kind.Cipher(), a), a)
	return nil
}

// created is zero where the token does not say: SoftHSM 2.6.1 cannot read back the
// date of a private object (CKR_GENERAL_ERROR).
func created(r raw, o p11.ObjectHandle) time.Time {
	a, err := r.attributes(o, p11.CKA_START_DATE)
	if err != nil {
		return time.Time{}
	}
	day, err := time.Parse("20060102", string(a[p11.CKA_START_DATE]))
	if err != nil {
		return time.Time{}
	}
	return day
}

// checkValue computes a KCV; what the token keeps as CKA_CHECK_VALUE follows other
// conventions, or is wrong (hsm.md §6).
func (c *conn) checkValue(r raw, o p11.ObjectHandle, t hsm.KeyType) (gp.KCV, error) {
	a, err := r.attributes(o, p11.CKA_DERIVE, p11.CKA_ENCRYPT, p11.CKA_SIGN)
	if err != nil {
		return gp.KCV{}, err
	}
	var out []byte
	switch way := c.wayOf(t.Cipher(), a); {
	case way != 0 && t.Cipher() == kdf.HMAC:
		out, err = r.hmac(o, kdf.CheckBlock(kdf.HMAC))
	case way == inside:
		out, err = r.bytes(t.Cipher(), o, kdf.CheckBlock(t.Cipher()))
	case way == memory:
		out, err = r.encrypt(t.Cipher(), o, kdf.CheckBlock(t.Cipher()))
	default:
		return gp.KCV{}, fmt.Errorf("the key may not be used for what its type needs, or the token cannot")
	}
	if err != nil {
		return gp.KCV{}, err
	}
	return gp.KCV(out[:3]), nil
}

// Random implements hsm.Randomness.
func (t *Token) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > 1024 {
		return nil, fmt.Errorf("%d random bytes: want 1 to 1024", n)
	}
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("drawing random bytes: %w", err)
	}
	defer s.giveBack()
	return do(ctx, s, "drawing random bytes", func(r raw) ([]byte, error) { return r.c.GenerateRandom(r.h, n) })
}
