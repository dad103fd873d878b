//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// opWrapKey is what [hsm.Wrappers] need; its ways are in wrapways.go.
const opWrapKey operation = "wrap a key of 32 bytes under an AES-256 key that cannot leave it"

// wrapper is a wrapping key of the token, found again by its label each time.
type wrapper struct {
	t    *Token
	info hsm.WrapperInfo
	way  *wrapWay
}

// GenerateWrapper implements hsm.Wrappers.
func (t *Token) GenerateWrapper(ctx context.Context, id hsm.WrapperID) (hsm.Wrapper, error) {
	if err := id.Check(); err != nil {
		return nil, fmt.Errorf("generating wrapping key: %w", err)
	}
	return withSession(ctx, t, "generating wrapping key", func(s *session, r raw) (hsm.Wrapper, error) {
		before, err := r.find(maxObjects, attr(p11.CKA_LABEL, id.Label()))
		if err != nil {
			return nil, err
		}
		if len(before) > 0 {
			return nil, fmt.Errorf("%s: %w", id.Label(), hsm.ErrExists)
		}
		way, err := s.c.wrapWay(r)
		if err != nil {
			return nil, err
		}
		o, err := orWithout(wrapperKey(id, way, time.Now()), func(template []*p11.Attribute) (p11.ObjectHandle, error) {
			return r.c.GenerateKey(r.h, mech(p11.CKM_AES_KEY_GEN, nil), template)
		})
		if err != nil {
			return nil, err
		}
		w, err := t.describeWrapper(s, r, o, id)
		if err != nil {
			return nil, errors.Join(err, r.c.DestroyObject(r.h, o))
		}
		return w, nil
	})
}

// wrapperKey is the template of a wrapping key: it does what its way needs, and
// nothing else.
func wrapperKey(id hsm.WrapperID, w *wrapWay, now time.Time) []*p11.Attribute {
	ckaID := id.ID()
	return []*p11.Attribute{
		attr(p11.CKA_VALUE_LEN, hsm.AES256.Size()),
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, uint(p11.CKK_AES)),
		attr(p11.CKA_LABEL, id.Label()), attr(p11.CKA_ID, ckaID[:]), attr(p11.CKA_START_DATE, now.UTC()),
		attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_ENCRYPT, !w.wraps), attr(p11.CKA_DECRYPT, !w.wraps),
		attr(p11.CKA_SIGN, false), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, w.wraps), attr(p11.CKA_UNWRAP, w.wraps), attr(p11.CKA_DERIVE, false),
		attr(p11.CKA_COPYABLE, false), attr(p11.CKA_MODIFIABLE, false), // MODIFIABLE stands last
	}
}

// withSession runs f in a session; what fails for a connection that died is tried
// once more.
func withSession[T any](ctx context.Context, t *Token, doing string, f func(*session, raw) (T, error)) (T, error) {
	once := func() (T, error) {
		s, err := t.borrow(ctx)
		if err != nil {
			var none T
			return none, fmt.Errorf("%s: %w", doing, err)
		}
		defer s.giveBack()
		return do(ctx, s, doing, func(r raw) (T, error) { return f(s, r) })
	}
	v, err := once()
	if errors.Is(err, hsm.ErrUnavailable) && ctx.Err() == nil {
		return once()
	}
	return v, err
}

// Wrapper implements hsm.Wrappers.
func (t *Token) Wrapper(ctx context.Context, id hsm.WrapperID) (hsm.Wrapper, error) {
	return withSession(ctx, t, "finding wrapping key", func(s *session, r raw) (hsm.Wrapper, error) {
		o, err := findWrapper(s, r, id)
		if err != nil {
			return nil, err
		}
		return t.describeWrapper(s, r, o, id)
	})
}

// findWrapper finds the one object of a wrapping key.
func findWrapper(s *session, r raw, id hsm.WrapperID) (p11.ObjectHandle, error) {
	ckaID := id.ID()
	found, err := r.find(maxObjects, attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_TOKEN, true),
		attr(p11.CKA_LABEL, id.Label()), attr(p11.CKA_ID, ckaID[:]))
	switch {
	case err != nil:
		return 0, err
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, fmt.Errorf("token %s has %d keys %s: delete those that are not to be", s.c.name(), len(found), id.Label())
	}
	if _, err := r.c.GetTokenInfo(s.c.slot); err != nil { // nobody logged in and an empty token look the same
		return 0, fmt.Errorf("%s: token %s does not answer: %s: %w", id.Label(), s.c.name(), rv(err), hsm.ErrUnavailable)
	}
	return 0, fmt.Errorf("%s in token %s: %w", id.Label(), s.c.name(), hsm.ErrNotFound)
}

// describeWrapper reads what the token made of a key, and chooses its way by it.
func (t *Token) describeWrapper(s *session, r raw, o p11.ObjectHandle, id hsm.WrapperID) (hsm.Wrapper, error) {
	a, err := r.attributes(o, p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	if kind, err := kindOf(r, o, a[p11.CKA_KEY_TYPE]); err != nil || kind != hsm.AES256 {
		return nil, errors.Join(fmt.Errorf("%s is of type %v, not %v", id.Label(), kind, hsm.AES256), err)
	}
	if !is(a[p11.CKA_SENSITIVE]) || is(a[p11.CKA_EXTRACTABLE]) {
		return nil, fmt.Errorf("%s could leave token %s: it does not seal", id.Label(), s.c.name())
	}
	w := &wrapper{t: t, info: hsm.WrapperInfo{ID: id, Token: s.c.info.Label, Serial: s.c.info.SerialNumber}}
	if is(a[p11.CKA_ENCRYPT]) {
		if zero, err := r.encrypt(kdf.AES, o, make([]byte, 16)); err == nil {
			w.info.KCV = slices.Clone(zero[:3])
			clear(zero)
		}
	}
	encrypts := is(a[p11.CKA_ENCRYPT]) && is(a[p11.CKA_DECRYPT])
	wraps := is(a[p11.CKA_WRAP]) && is(a[p11.CKA_UNWRAP])
	w.way, err = s.c.wrapWay(r, func(w *wrapWay) bool { return w.wraps && wraps || !w.wraps && encrypts })
	return w, err
}

// Wrappers implements hsm.Wrappers.
func (t *Token) Wrappers(ctx context.Context) ([]hsm.WrapperID, error) {
	return withSession(ctx, t, "listing wrapping keys", func(s *session, r raw) ([]hsm.WrapperID, error) {
		objects, err := r.find(maxObjects, attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_TOKEN, true))
		if err != nil {
			return nil, err
		}
		var out []hsm.WrapperID
		for _, o := range objects {
			a, err := r.attributes(o, p11.CKA_LABEL, p11.CKA_ID)
			if err != nil {
				return nil, err
			}
			if id, err := hsm.ParseWrapperID(string(a[p11.CKA_LABEL]), a[p11.CKA_ID]); err == nil {
				out = append(out, id)
			}
		}
		slices.SortFunc(out, hsm.CompareWrappers)
		return out, nil
	})
}

// DestroyWrapper implements hsm.Wrappers.
func (t *Token) DestroyWrapper(ctx context.Context, id hsm.WrapperID) error {
	_, err := withSession(ctx, t, "destroying wrapping key", func(s *session, r raw) (struct{}, error) {
		o, err := findWrapper(s, r, id)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, r.c.DestroyObject(r.h, o)
	})
	return err
}

// Info implements hsm.Wrapper.
func (w *wrapper) Info() hsm.WrapperInfo { return w.info }

// Wrap implements hsm.Wrapper.
func (w *wrapper) Wrap(ctx context.Context, key secret.Secret, aad []byte) (hsm.WrappedKey, error) {
	if key.Len() != hsm.WrapperKeySize {
		return hsm.WrappedKey{}, fmt.Errorf("wrapping a key of %d bytes: want %d", key.Len(), hsm.WrapperKeySize)
	}
	return withSession(ctx, w.t, "wrapping a key", func(s *session, r raw) (hsm.WrappedKey, error) {
		o, err := findWrapper(s, r, w.info.ID)
		if err != nil {
			return hsm.WrappedKey{}, err
		}
		nonce, data, err := w.way.wrap(r, o, key.Bytes(), aad)
		return hsm.WrappedKey{Mechanism: w.way.mechanism, Nonce: nonce, Data: data}, err
	})
}

// Unwrap implements hsm.Wrapper. The mechanism is that of the wrapped key.
func (w *wrapper) Unwrap(ctx context.Context, in hsm.WrappedKey, aad []byte) (secret.Secret, error) {
	return withSession(ctx, w.t, "unwrapping a key", func(s *session, r raw) (secret.Secret, error) {
		way, err := s.c.wrapWay(r, func(w *wrapWay) bool { return w.mechanism == in.Mechanism })
		if err != nil {
			return secret.Secret{}, err
		}
		o, err := findWrapper(s, r, w.info.ID)
		if err != nil {
			return secret.Secret{}, err
		}
		b, err := way.unwrap(r, o, in.Nonce, in.Data, aad)
		if err != nil {
			return secret.Secret{}, err
		}
		if len(b) != hsm.WrapperKeySize {
			clear(b)
			return secret.Secret{}, fmt.Errorf("unwrapped %d bytes, want %d", len(b), hsm.WrapperKeySize)
		}
		return secret.New(b), nil
	})
}
