//go:build cgo && !windows

package pkcs11

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// counters are the data objects of a label. There may be two where a change was
// cut: the highest counts.
func counters(r raw, l hsm.CounterLabel) ([]p11.ObjectHandle, error) {
	return r.find(maxObjects, attr(p11.CKA_CLASS, uint(p11.CKO_DATA)), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, string(l)))
}

// Counter implements hsm.Counters.
func (t *Token) Counter(ctx context.Context, l hsm.CounterLabel) (uint64, error) {
	return withSession(ctx, t, "reading counter "+string(l), func(s *session, r raw) (uint64, error) {
		objects, err := counters(r, l)
		if err != nil {
			return 0, err
		}
		if _, err := r.c.GetTokenInfo(s.c.slot); err != nil && len(objects) == 0 { // an absent token looks the same
			return 0, fmt.Errorf("token %s does not answer: %s: %w", s.c.name(), rv(err), hsm.ErrUnavailable)
		}
		var highest uint64
		for _, o := range objects {
			b, err := r.value(o)
			if err != nil {
				return 0, err
			}
			if len(b) != 8 {
				return 0, fmt.Errorf("object %s has %d bytes, want 8", l, len(b))
			}
			highest = max(highest, binary.BigEndian.Uint64(b))
		}
		return highest, nil
	})
}

// SetCounter implements hsm.Counters: a new object, then the old ones are
// destroyed, because tokens refuse to change a value (hsm.md §6).
func (t *Token) SetCounter(ctx context.Context, l hsm.CounterLabel, v uint64) error {
	if err := l.Check(); err != nil {
		return fmt.Errorf("setting counter: %w", err)
	}
	_, err := withSession(ctx, t, "setting counter "+string(l), func(s *session, r raw) (struct{}, error) {
		old, err := counters(r, l)
		if err != nil {
			return struct{}{}, err
		}
		_, err = r.c.CreateObject(r.h, []*p11.Attribute{
			attr(p11.CKA_CLASS, uint(p11.CKO_DATA)), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
			attr(p11.CKA_LABEL, string(l)), attr(p11.CKA_APPLICATION, "inkan"), attr(p11.CKA_VALUE, binary.BigEndian.AppendUint64(nil, v)),
		})
		if isRV(err, p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_ATTRIBUTE_TYPE_INVALID) {
			return struct{}{}, &hsm.MechanismError{Token: s.c.name(), Operation: "keep a number as a data object",
				Candidates: []hsm.Candidate{{Name: "C_CreateObject of CKO_DATA", Number: p11.CKO_DATA, Reason: rv(err)}}, Remedy: "Seal without an anchor in the HSM"}
		}
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, destroyAll(r, old)
	})
	return err
}

// DeleteCounter implements hsm.Counters.
func (t *Token) DeleteCounter(ctx context.Context, l hsm.CounterLabel) error {
	_, err := withSession(ctx, t, "deleting counter "+string(l), func(_ *session, r raw) (struct{}, error) {
		old, err := counters(r, l)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, destroyAll(r, old)
	})
	return err
}

func destroyAll(r raw, objects []p11.ObjectHandle) (err error) {
	for _, o := range objects {
		err = errors.Join(err, r.c.DestroyObject(r.h, o))
	}
	return err
}
