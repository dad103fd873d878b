// Package catest helps to test what stands around a certificate authority: a
// store in memory, faults at chosen calls, and the conformance suite of every
// [ca.Store].
package catest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// Store is a [ca.Store] in memory. The zero value is empty and ready.
type Store struct {
	mu     sync.Mutex
	issued []ca.Issued
	change int64
	crl    ca.CRL
}

var _ ca.Store = (*Store)(nil)

// Records returns all records in the order of their creation.
func (s *Store) Records() []ca.Issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ca.Issued, len(s.issued))
	for i, r := range s.issued {
		out[i] = clone(r)
	}
	return out
}

// Issued implements ca.Store.
func (s *Store) Issued(ctx context.Context, requestID string) (ca.Issued, error) {
	return s.find(ctx, func(i ca.Issued) bool { return i.RequestID == requestID })
}

// IssuedBySerial implements ca.Store.
func (s *Store) IssuedBySerial(ctx context.Context, serial ca.Serial) (ca.Issued, error) {
	return s.find(ctx, func(i ca.Issued) bool { return i.Serial == serial })
}

func (s *Store) find(ctx context.Context, match func(ca.Issued) bool) (ca.Issued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ca.Issued{}, err
	}
	at := slices.IndexFunc(s.issued, match)
	if at < 0 {
		return ca.Issued{}, token.ErrNotFound
	}
	return clone(s.issued[at]), nil
}

// CreateIssued implements ca.Store.
func (s *Store) CreateIssued(ctx context.Context, i ca.Issued) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if slices.ContainsFunc(s.issued, func(o ca.Issued) bool { return o.RequestID == i.RequestID || o.Serial == i.Serial }) {
		return token.ErrConflict
	}
	s.issued = append(s.issued, clone(i))
	return nil
}

// CompleteIssued implements ca.Store.
func (s *Store) CompleteIssued(ctx context.Context, requestID string, der []byte) error {
	return s.update(ctx, func(i ca.Issued) bool { return i.RequestID == requestID }, func(i *ca.Issued) error {
		if i.DER != nil {
			return token.ErrConflict
		}
		i.DER = bytes.Clone(der)
		return nil
	})
}

// SetRevocation implements ca.Store.
func (s *Store) SetRevocation(ctx context.Context, serial ca.Serial, r ca.Revocation) error {
	return s.update(ctx, func(i ca.Issued) bool { return i.Serial == serial }, func(i *ca.Issued) error {
		if i.Revocation.Revision != r.Revision {
			return token.ErrConflict
		}
		r.Revision++
		i.Revocation = r
		s.change++
		return nil
	})
}

func (s *Store) update(ctx context.Context, match func(ca.Issued) bool, change func(*ca.Issued) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	at := slices.IndexFunc(s.issued, match)
	if at < 0 {
		return token.ErrNotFound
	}
	return change(&s.issued[at])
}

// Revoked implements ca.Store.
func (s *Store) Revoked(ctx context.Context, since time.Time) ([]ca.Revoked, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	var out []ca.Revoked
	for _, i := range s.issued {
		if !i.Revocation.At.IsZero() && !i.NotAfter.Before(since) {
			out = append(out, ca.Revoked{Serial: i.Serial, At: i.Revocation.At, Reason: i.Revocation.Reason})
		}
	}
	slices.SortFunc(out, func(a, b ca.Revoked) int { return strings.Compare(string(a.Serial), string(b.Serial)) })
	return out, s.change, nil
}

// LatestCRL implements ca.Store.
func (s *Store) LatestCRL(ctx context.Context) (ca.CRL, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return ca.CRL{}, 0, err
	}
	c := s.crl
	c.DER = bytes.Clone(c.DER)
	return c, s.change, nil
}

// PutCRL implements ca.Store.
func (s *Store) PutCRL(ctx context.Context, c ca.CRL) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Number != s.crl.Number+1 {
		return fmt.Errorf("revocation list %d after %d: %w", c.Number, s.crl.Number, token.ErrConflict)
	}
	c.DER = bytes.Clone(c.DER)
	s.crl = c
	return nil
}

func clone(i ca.Issued) ca.Issued {
	i.KeyHash, i.TBS, i.DER = bytes.Clone(i.KeyHash), bytes.Clone(i.TBS), bytes.Clone(i.DER)
	return i
}
