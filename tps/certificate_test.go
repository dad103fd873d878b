package tps_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/token"
)

// deafCA stops answering while deaf is set.
type deafCA struct {
	ca.Authority
	mu    sync.Mutex
	deaf  bool
	asked []ca.Reason
}

func (d *deafCA) Revoke(ctx context.Context, i ca.Issuer, s ca.Serial, r ca.Reason) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r)
	if d.deaf {
		return ca.ErrUnavailable
	}
	return d.Authority.Revoke(ctx, i, s, r)
}

// issued is a site with a card of ada's and one certificate in a state.
func issued(t *testing.T, state token.CertState) (*site, *deafCA, token.Certificate) {
	t.Helper()
	s := newSite(t)
	d := &deafCA{Authority: s.ca}
	s.ca = d
	cuid := apdu.CUID{0x40, 0x90, 1}
	_, err := s.db.CreateToken(t.Context(), token.Token{CUID: cuid, UserID: "ada", State: token.Active})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c, err := d.Issue(t.Context(), ca.Request{ID: token.NewID(), Profile: "signing", PublicKey: &key.PublicKey, CUID: cuid,
		Subject: ca.Subject{UserID: "ada", Name: "Ada Lovelace"}})
	must(t, err)
	r, err := s.db.CreateCertificate(t.Context(), token.Certificate{CUID: cuid, UserID: "ada", KeyType: "signing", State: state,
		Serial: string(c.Serial), Subject: c.Subject, Issuer: c.Issuer.Name, AKI: c.Issuer.KeyID, DER: c.DER, CA: "embedded", Origin: cuid,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter})
	must(t, err)
	return s, d, r
}

func change(s *site, id string, a tps.CertificateAction, r ca.Reason) (token.Certificate, error) {
	return s.engine().ChangeCertificate(s.t.Context(), tps.CertificateChange{ID: id, Action: a, Reason: r, By: "gus", Client: "192.0.2.7"})
}

// TestChangeCertificate walks through a certificate's life; want is the state
// after each action, "" where it is refused.
func TestChangeCertificate(t *testing.T) {
	t.Parallel()
	type step struct {
		action tps.CertificateAction
		reason ca.Reason
		want   token.CertState
	}
	const (
		revoke, hold, unhold = tps.ActionRevoke, tps.ActionHold, tps.ActionUnhold
		active, held, gone   = token.CertActive, token.CertOnHold, token.CertRevoked
	)
	for name, tt := range map[string]struct {
		from  token.CertState
		steps []step
		asked []ca.Reason // by the authority
	}{
		"hold and back": {active, []step{{hold, 0, held}, {hold, 0, held}, {unhold, 0, active}, {unhold, 0, active}}, []ca.Reason{6, 8}},
		"for good":      {active, []step{{revoke, 4, gone}, {revoke, 4, gone}, {revoke, 5, ""}, {hold, 0, ""}, {unhold, 0, ""}}, []ca.Reason{4}},
		"gets worse":    {active, []step{{revoke, 4, gone}, {revoke, 1, gone}, {revoke, 1, gone}, {revoke, 4, ""}}, []ca.Reason{4, 1}},
		"from hold":     {active, []step{{hold, 0, held}, {revoke, 1, gone}}, []ca.Reason{6, 1}},
		"unconfirmed":   {token.CertUninitialized, []step{{hold, 0, ""}, {unhold, 0, ""}, {revoke, 5, gone}}, []ca.Reason{5}},
		"no reasons":    {active, []step{{revoke, 6, ""}, {revoke, 8, ""}, {"burn", 0, ""}, {"", 0, ""}}, nil},
		"bad reason":    {active, []step{{revoke, 2, ""}}, []ca.Reason{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d, c := issued(t, tt.from)
			last := tt.from
			for i, st := range tt.steps {
				got, err := change(s, c.ID, st.action, st.reason)
				if (err == nil) != (st.want != "") {
					t.Fatalf("step %d %s: %v", i, st.action, err)
				}
				if err != nil && !errors.Is(err, tps.ErrCertificateState) && !errors.Is(err, ca.ErrRefused) {
					t.Errorf("step %d %s: %v", i, st.action, err)
				}
				if err == nil {
					last = st.want
				}
				stored, serr := s.db.Certificate(t.Context(), c.ID)
				must(t, serr)
				if stored.State != last || err == nil && got.State != last || stored.Pending != "" {
					t.Errorf("step %d %s: returned %s, stored %s %q, want %s", i, st.action, got.State, stored.State, stored.Pending, last)
				}
			}
			if !slices.Equal(d.asked, tt.asked) {
				t.Errorf("the authority was asked %v, want %v", d.asked, tt.asked)
			}
		})
	}
}

func TestChangeCertificateRecords(t *testing.T) {
	t.Parallel()
	s, _, c := issued(t, token.CertActive)
	// The same certificate on a second card, and another authority's with the same number.
	twin, foreign := c, c
	twin.ID, foreign.ID = token.NewID(), token.NewID()
	twin.CUID = apdu.CUID{0x40, 0x90, 2}
	foreign.Issuer = []byte{0x30, 0}
	for _, r := range []token.Certificate{twin, foreign} {
		_, err := s.db.CreateCertificate(t.Context(), r)
		must(t, err)
	}
	if _, err := change(s, c.ID, tps.ActionRevoke, ca.ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]token.CertState{c.ID: token.CertRevoked, twin.ID: token.CertRevoked, foreign.ID: token.CertActive} {
		r, err := s.db.Certificate(t.Context(), id)
		must(t, err)
		if r.State != want {
			t.Errorf("record %s is %s, want %s", id, r.State, want)
		}
	}
	if _, err := change(s, foreign.ID, tps.ActionRevoke, 0); !errors.Is(err, ca.ErrNotIssuer) {
		t.Errorf("revoking another authority's: %v", err)
	}
	acts, err := s.db.Activities(t.Context(), token.Filter{CUID: &c.CUID})
	must(t, err)
	if len(acts) != 2 || acts[0].Success || !acts[1].Success || acts[1].Operation != "cert_revocation" || acts[1].UserID != "gus" ||
		acts[1].IP != "192.0.2.7" || !strings.Contains(acts[1].Message, "keyCompromise") {
		t.Errorf("activities %+v", acts)
	}
	var got []string
	for _, e := range s.audit.(*memoryAudit).events {
		got = append(got, e.Name+" "+string(e.Outcome)+" "+e.Subject+" "+e.Fields["request"])
	}
	want := []string{"attempt", "success", "attempt", "failure"}
	for i := range want {
		want[i] = "TOKEN_CERT_STATUS_CHANGE_REQUEST " + want[i] + " gus revoke"
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit %q", got)
	}
	if _, err := change(s, token.NewID(), tps.ActionHold, 0); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("no such record: %v", err)
	}
}

// TestChangeCertificateLater: what the authority does not answer is tried again.
func TestChangeCertificateLater(t *testing.T) {
	t.Parallel()
	for action, want := range map[tps.CertificateAction]token.CertState{tps.ActionRevoke: token.CertRevoked, tps.ActionHold: token.CertOnHold} {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			s, d, c := issued(t, token.CertActive)
			d.deaf = true
			if _, err := change(s, c.ID, action, ca.ReasonUnspecified); !errors.Is(err, ca.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			r, err := s.db.Certificate(t.Context(), c.ID)
			must(t, err)
			if r.State != token.CertActive || r.Pending != "revoke" {
				t.Errorf("record %s, pending %q", r.State, r.Pending)
			}
			if _, err := change(s, c.ID, tps.ActionUnhold, 0); !errors.Is(err, tps.ErrCertificateState) {
				t.Errorf("taken off hold while a revocation waits: %v", err)
			}
			d.deaf = false
			must(t, s.engine().Sweep(t.Context()))
			if r, err = s.db.Certificate(t.Context(), c.ID); err != nil || r.State != want || r.Pending != "" {
				t.Errorf("after the sweep: %s, pending %q, %v", r.State, r.Pending, err)
			}
		})
	}
}

// TestUnholdLostCard: a card that is lost gets no valid certificate by the back door.
func TestUnholdLostCard(t *testing.T) {
	t.Parallel()
	s, d, c := issued(t, token.CertActive)
	_, err := change(s, c.ID, tps.ActionHold, 0)
	must(t, err)
	tok, err := s.db.Token(t.Context(), c.CUID)
	must(t, err)
	tok.State = token.Suspended
	_, err = s.db.ReplaceToken(t.Context(), tok)
	must(t, err)
	if _, err := change(s, c.ID, tps.ActionUnhold, 0); !errors.Is(err, tps.ErrCertificateState) || len(d.asked) != 1 {
		t.Errorf("got %v, authority asked %v", err, d.asked)
	}
}

// racingStore lets somebody else change a record just before each of the first writes.
type racingStore struct {
	*store.DB
	t     *testing.T
	races int
}

func (r *racingStore) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	if r.races > 0 {
		r.races--
		now, err := r.DB.Certificate(ctx, c.ID)
		must(r.t, err)
		now.KeyType = "changed meanwhile"
		_, err = r.DB.ReplaceCertificate(ctx, now)
		must(r.t, err)
	}
	return r.DB.ReplaceCertificate(ctx, c)
}

func TestChangeCertificateRace(t *testing.T) {
	t.Parallel()
	for races, ok := range map[int]bool{3: true, 4: false} {
		s, _, c := issued(t, token.CertActive)
		s.stores.Certificates = &racingStore{s.db, t, races}
		_, err := change(s, c.ID, tps.ActionRevoke, ca.ReasonSuperseded)
		if (err == nil) != ok || err != nil && !errors.Is(err, token.ErrConflict) {
			t.Errorf("%d races: %v", races, err)
		}
		r, err := s.db.Certificate(t.Context(), c.ID)
		must(t, err)
		if ok && (r.State != token.CertRevoked || r.KeyType != "changed meanwhile") {
			t.Errorf("record %+v", r)
		}
	}
}

// shortAudit takes so many events.
type shortAudit struct{ left int }

func (f *shortAudit) Record(context.Context, audit.Event) error {
	if f.left--; f.left < 0 {
		return errors.New("no space left on the disk")
	}
	return nil
}

func TestChangeCertificateNeedsAudit(t *testing.T) {
	t.Parallel()
	s, d, c := issued(t, token.CertActive)
	s.audit = &shortAudit{}
	if _, err := change(s, c.ID, tps.ActionRevoke, 0); err == nil || len(d.asked) != 0 {
		t.Errorf("got %v, authority asked %v", err, d.asked)
	}
	s.audit = &shortAudit{1}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := s.engine().ChangeCertificate(ctx, tps.CertificateChange{ID: c.ID, Action: tps.ActionRevoke, By: "gus"})
	if err == nil || r.State != token.CertRevoked {
		t.Errorf("the outcome could not be audited: %s, %v", r.State, err)
	}
}
