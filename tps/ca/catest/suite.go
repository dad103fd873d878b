package catest

import (
	"bytes"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// TestStore runs the conformance suite of [ca.Store]. open returns an empty store
// for each test.
func TestStore(t *testing.T, open func(t *testing.T) ca.Store) {
	t.Run("issued", func(t *testing.T) { testIssued(t, open(t)) })
	t.Run("revocation", func(t *testing.T) { testRevocation(t, open(t)) })
	t.Run("crl", func(t *testing.T) { testCRL(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, open(t)) })
}

var moment = time.Date(2026, 3, 1, 12, 30, 45, 0, time.UTC)

func record(id string, serial ca.Serial) ca.Issued {
	return ca.Issued{
		RequestID: id, Serial: serial, Profile: "signing", KeyHash: bytes.Repeat([]byte{7}, 32),
		TBS: []byte{0x30, 0x00}, NotAfter: moment.AddDate(1, 0, 0), Created: moment,
	}
}

func testIssued(t *testing.T, s ca.Store) {
	ctx := t.Context()
	want := record("r1", "4A")
	must(t, s.CreateIssued(ctx, want))
	same(t, want, func() (ca.Issued, error) { return s.Issued(ctx, "r1") })
	same(t, want, func() (ca.Issued, error) { return s.IssuedBySerial(ctx, "4A") })

	_, err := s.Issued(ctx, "r2")
	is(t, err, token.ErrNotFound)
	_, err = s.IssuedBySerial(ctx, "4B")
	is(t, err, token.ErrNotFound)
	is(t, s.CreateIssued(ctx, record("r1", "4C")), token.ErrConflict)
	is(t, s.CreateIssued(ctx, record("r3", "4A")), token.ErrConflict)
	_, err = s.Issued(ctx, "r3")
	is(t, err, token.ErrNotFound)

	der := []byte{1, 2, 3}
	must(t, s.CompleteIssued(ctx, "r1", der))
	der[0] = 9 // a store does not retain what it is given
	want.DER = []byte{1, 2, 3}
	same(t, want, func() (ca.Issued, error) { return s.Issued(ctx, "r1") })
	is(t, s.CompleteIssued(ctx, "r1", want.DER), token.ErrConflict)
	is(t, s.CompleteIssued(ctx, "r9", want.DER), token.ErrNotFound)
}

func testRevocation(t *testing.T, s ca.Store) {
	ctx := t.Context()
	for _, r := range []ca.Issued{record("r1", "5B"), record("r2", "5A"), record("r3", "5C")} {
		must(t, s.CreateIssued(ctx, r))
		must(t, s.CompleteIssued(ctx, r.RequestID, []byte{1}))
	}
	revokedAre(t, s, moment, 0)
	held := ca.Revocation{At: moment, Reason: ca.ReasonCertificateHold}
	must(t, s.SetRevocation(ctx, "5B", held))
	is(t, s.SetRevocation(ctx, "5B", held), token.ErrConflict) // revision is 1 by now
	is(t, s.SetRevocation(ctx, "5F", held), token.ErrNotFound)
	must(t, s.SetRevocation(ctx, "5A", ca.Revocation{At: moment.Add(time.Second)})) // unspecified
	revokedAre(t, s, moment, 2,
		ca.Revoked{Serial: "5A", At: moment.Add(time.Second)},
		ca.Revoked{Serial: "5B", At: moment, Reason: ca.ReasonCertificateHold})

	got, err := s.IssuedBySerial(ctx, "5B")
	must(t, err)
	held.Revision = 1
	if got.Revocation != held {
		t.Errorf("revocation %+v, want %+v", got.Revocation, held)
	}
	must(t, s.SetRevocation(ctx, "5B", ca.Revocation{Revision: 1}))
	revokedAre(t, s, moment, 3, ca.Revoked{Serial: "5A", At: moment.Add(time.Second)})
	got, err = s.IssuedBySerial(ctx, "5B")
	must(t, err)
	if got.Revocation != (ca.Revocation{Revision: 2}) {
		t.Errorf("revocation off hold %+v", got.Revocation)
	}
	expiry := moment.AddDate(1, 0, 0)
	revokedAre(t, s, expiry, 3, ca.Revoked{Serial: "5A", At: moment.Add(time.Second)})
	revokedAre(t, s, expiry.Add(time.Second), 3)
}

func testCRL(t *testing.T, s ca.Store) {
	ctx := t.Context()
	same(t, ca.CRL{}, func() (ca.CRL, error) { c, _, err := s.LatestCRL(ctx); return c, err })
	first := ca.CRL{Number: 1, ThisUpdate: moment, NextUpdate: moment.Add(time.Hour), DER: []byte{1}}
	is(t, s.PutCRL(ctx, ca.CRL{Number: 2, ThisUpdate: moment, NextUpdate: moment, DER: []byte{2}}), token.ErrConflict)
	must(t, s.PutCRL(ctx, first))
	is(t, s.PutCRL(ctx, first), token.ErrConflict)
	same(t, first, func() (ca.CRL, error) { c, _, err := s.LatestCRL(ctx); return c, err })

	must(t, s.CreateIssued(ctx, record("r1", "5B")))
	must(t, s.SetRevocation(ctx, "5B", ca.Revocation{At: moment}))
	c, change, err := s.LatestCRL(ctx)
	must(t, err)
	if c.Change != 0 || change != 1 {
		t.Errorf("list of change %d, present change %d; want 0 and 1", c.Change, change)
	}
	second := ca.CRL{Number: 2, Change: change, ThisUpdate: moment, NextUpdate: moment.Add(time.Hour), DER: []byte{2}}
	must(t, s.PutCRL(ctx, second))
	same(t, second, func() (ca.CRL, error) { c, _, err := s.LatestCRL(ctx); return c, err })
}

// testConcurrent lets several callers do the same thing: exactly one succeeds.
func testConcurrent(t *testing.T, s ca.Store) {
	ctx := t.Context()
	must(t, s.CreateIssued(ctx, record("r0", "60")))
	for name, do := range map[string]func(i int) error{
		"create":   func(i int) error { return s.CreateIssued(ctx, record("r1", ca.Serial(rune('1'+i)))) },
		"complete": func(i int) error { return s.CompleteIssued(ctx, "r0", []byte{byte(i)}) },
		"revoke":   func(int) error { return s.SetRevocation(ctx, "60", ca.Revocation{At: moment}) },
		"crl": func(int) error {
			return s.PutCRL(ctx, ca.CRL{Number: 1, ThisUpdate: moment, NextUpdate: moment, DER: []byte{1}})
		},
	} {
		const callers = 8
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() { errs[i] = do(i) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else {
				is(t, err, token.ErrConflict)
			}
		}
		if done != 1 {
			t.Errorf("%s: %d callers succeeded, want 1", name, done)
		}
	}
}

func revokedAre(t *testing.T, s ca.Store, since time.Time, change int64, want ...ca.Revoked) {
	t.Helper()
	got, n, err := s.Revoked(t.Context(), since)
	must(t, err)
	if n != change || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("revoked since %s: %+v, change %d; want %+v, change %d", since, got, n, want, change)
	}
}

func same[T any](t *testing.T, want T, get func() (T, error)) {
	t.Helper()
	got, err := get()
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
