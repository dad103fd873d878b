package tps_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/token"
)

func giveState(s *site, cuid apdu.CUID, to token.State) (token.Token, []token.Certificate, error) {
	return s.engine().SetTokenState(s.t.Context(), tps.StateChange{CUID: cuid, State: to, By: "gus", Client: "192.0.2.7"})
}

// stored reads what the records say.
func stored(s *site, c token.Certificate) (token.Token, token.Certificate) {
	s.t.Helper()
	t, err := s.db.Token(s.t.Context(), c.CUID)
	must(s.t, err)
	c, err = s.db.Certificate(s.t.Context(), c.ID)
	must(s.t, err)
	return t, c
}

// TestSetTokenState walks through the table of tps-operations.md §12.2.
func TestSetTokenState(t *testing.T) {
	t.Parallel()
	type step struct {
		to   token.State
		ok   bool
		cert token.CertState
	}
	const (
		active, held, gone = token.CertActive, token.CertOnHold, token.CertRevoked
	)
	for name, tt := range map[string]struct {
		steps []step
		asked []ca.Reason
	}{
		"lost":               {[]step{{token.PermLost, true, gone}, {token.PermLost, true, gone}, {token.Active, false, gone}}, []ca.Reason{1}},
		"damaged, then lost": {[]step{{token.Damaged, true, gone}, {token.Terminated, false, gone}, {token.PermLost, true, gone}}, []ca.Reason{0, 1}},
		"suspended, found":   {[]step{{token.Suspended, true, held}, {token.Formatted, false, held}, {token.Active, true, active}}, []ca.Reason{6, 8}},
		"suspended, lost":    {[]step{{token.Suspended, true, held}, {token.PermLost, true, gone}}, []ca.Reason{6, 1}},
		"used again":         {[]step{{token.Terminated, true, gone}, {token.Unformatted, true, gone}}, []ca.Reason{1}},
		"not by hand":        {[]step{{token.Formatted, false, active}, {token.Unformatted, false, active}, {"BURNT", false, active}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d, c := issued(t, token.CertActive)
			state := token.Active
			for _, st := range tt.steps {
				got, _, err := giveState(s, c.CUID, st.to)
				if (err == nil) != st.ok || err != nil && !errors.Is(err, tps.ErrTokenState) {
					t.Fatalf("to %s: %v", st.to, err)
				}
				if st.ok {
					state = st.to
				}
				rec, cert := stored(s, c)
				if rec.State != state || got.State != state || rec.Reason != state.Reason() || cert.State != st.cert || cert.Pending != "" {
					t.Errorf("to %s: token %s %q, certificate %s %q", st.to, rec.State, rec.Reason, cert.State, cert.Pending)
				}
			}
			if !slices.Equal(d.asked, tt.asked) {
				t.Errorf("the authority was asked %v, want %v", d.asked, tt.asked)
			}
		})
	}
}

// TestReuseClears: a card that is used again is nobody's, and still itself.
func TestReuseClears(t *testing.T) {
	t.Parallel()
	s, _, c := issued(t, token.CertActive)
	rec, _ := stored(s, c)
	kdd := [10]byte{1, 2, 3}
	rec.KDD, rec.KeySet, rec.KeyInfo, rec.AppletID, rec.Profile, rec.Policy = (*gp.KDD)(&kdd), "site", token.KeyInfo{2, 3}, "1.4.00000001", "test", "RENEW=YES"
	_, err := s.db.ReplaceToken(t.Context(), rec)
	must(t, err)
	for _, to := range []token.State{token.Terminated, token.Unformatted} {
		_, _, err := giveState(s, c.CUID, to)
		must(t, err)
	}
	rec, _ = stored(s, c)
	if rec.UserID != "" || rec.Profile != "" || rec.AppletID != "" || rec.KeySet != "" || len(rec.KeyInfo) != 0 || rec.Policy != "" || rec.KDD == nil {
		t.Errorf("record %+v", rec)
	}
}

// TestLostWhileAuthorityIsSilent: the state stands, the revocation is made up for.
func TestLostWhileAuthorityIsSilent(t *testing.T) {
	t.Parallel()
	for to, want := range map[token.State]token.CertState{token.PermLost: token.CertRevoked, token.Suspended: token.CertOnHold} {
		t.Run(string(to), func(t *testing.T) {
			t.Parallel()
			s, d, c := issued(t, token.CertActive)
			d.deaf = true
			_, certs, err := giveState(s, c.CUID, to)
			must(t, err)
			rec, cert := stored(s, c)
			if rec.State != to || cert.State != token.CertActive || cert.Pending != "revoke" || len(certs) != 1 || certs[0].Pending != "revoke" {
				t.Errorf("token %s, certificate %s %q, told %+v", rec.State, cert.State, cert.Pending, certs)
			}
			d.deaf = false
			must(t, s.engine().Sweep(t.Context()))
			if _, cert = stored(s, c); cert.State != want || cert.Pending != "" {
				t.Errorf("after the sweep: %s %q", cert.State, cert.Pending)
			}
		})
	}
}

// TestFoundWhileAuthorityIsSilent: the card stays suspended and its certificates
// on hold, whatever the authority did.
func TestFoundWhileAuthorityIsSilent(t *testing.T) {
	t.Parallel()
	s, d, c := issued(t, token.CertActive)
	_, _, err := giveState(s, c.CUID, token.Suspended)
	must(t, err)
	d.deaf = true
	if _, _, err := giveState(s, c.CUID, token.Active); !errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "stays SUSPENDED") {
		t.Fatalf("got %v", err)
	}
	if rec, cert := stored(s, c); rec.State != token.Suspended || !(cert.State == token.CertOnHold && cert.Pending == "revoke") {
		t.Errorf("token %s, certificate %s %q", rec.State, cert.State, cert.Pending)
	}
	d.deaf = false
	_, _, err = giveState(s, c.CUID, token.Active) // before the sweeper: what was pending is dropped
	must(t, err)
	if rec, cert := stored(s, c); rec.State != token.Active || cert.State != token.CertActive || cert.Pending != "" {
		t.Errorf("token %s, certificate %s %q", rec.State, cert.State, cert.Pending)
	}
	must(t, s.engine().Sweep(t.Context()))
	if _, cert := stored(s, c); cert.State != token.CertActive {
		t.Errorf("after the sweep: %s", cert.State)
	}
}

// TestFoundUnfinished: a certificate that was never confirmed on the card is not
// made valid by its way through a suspension.
func TestFoundUnfinished(t *testing.T) {
	t.Parallel()
	s, _, c := issued(t, token.CertUninitialized)
	j, err := s.db.BeginJournal(t.Context(), token.Journal{CUID: c.CUID, Operation: "enroll", Profile: "test", UserID: "ada"})
	must(t, err)
	c.Operation = j.ID
	_, err = s.db.ReplaceCertificate(t.Context(), c)
	must(t, err)
	for _, st := range []struct {
		to   token.State
		want token.CertState
	}{{token.Suspended, token.CertOnHold}, {token.Active, token.CertUninitialized}} {
		_, _, err := giveState(s, c.CUID, st.to)
		must(t, err)
		if _, cert := stored(s, c); cert.State != st.want {
			t.Errorf("%s: %s, want %s", st.to, cert.State, st.want)
		}
	}
}

// TestFoundBusy: a card that a session works on is not brought back behind its
// back; one that is lost is lost at once.
func TestFoundBusy(t *testing.T) {
	t.Parallel()
	s, _, c := issued(t, token.CertActive)
	must(t, s.db.Lock(t.Context(), token.Lock{CUID: c.CUID, Node: "node", Boot: s.start + "-2", Session: "x"}))
	_, _, err := giveState(s, c.CUID, token.Suspended)
	must(t, err)
	if _, _, err := giveState(s, c.CUID, token.Active); !errors.Is(err, token.ErrLocked) {
		t.Errorf("got %v", err)
	}
}

// racingTokens lets somebody else change a token's record just before each of the
// first writes.
type racingTokens struct {
	*store.DB
	s     *site
	races int
	to    token.State
}

func (r *racingTokens) ReplaceToken(ctx context.Context, t token.Token) (token.Token, error) {
	if r.races > 0 {
		r.races--
		now, err := r.DB.Token(ctx, t.CUID)
		must(r.s.t, err)
		if now.Policy += "."; r.to != "" {
			now.State = r.to
		}
		_, err = r.DB.ReplaceToken(ctx, now)
		must(r.s.t, err)
	}
	return r.DB.ReplaceToken(ctx, t)
}

func TestSetTokenStateRace(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		races int
		to    token.State
		ok    bool
	}{"other fields": {3, "", true}, "again and again": {4, "", false}, "another state": {1, token.Terminated, false}} {
		s, _, c := issued(t, token.CertActive)
		s.stores.Tokens = &racingTokens{s.db, s, tt.races, tt.to}
		_, _, err := giveState(s, c.CUID, token.PermLost)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, token.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		rec, cert := stored(s, c)
		if tt.ok && (rec.State != token.PermLost || rec.Policy != "...") {
			t.Errorf("%s: record %+v", name, rec)
		}
		if !tt.ok && (rec.State == token.PermLost || cert.Pending != "revoke") { // the sweeper goes on with it
			t.Errorf("%s: token %s, certificate %s %q", name, rec.State, cert.State, cert.Pending)
		}
	}
}

func TestSetTokenStateRecords(t *testing.T) {
	t.Parallel()
	s, _, c := issued(t, token.CertActive)
	_, _, err := giveState(s, c.CUID, token.Damaged)
	must(t, err)
	if _, _, err := giveState(s, c.CUID, token.Active); !errors.Is(err, tps.ErrTokenState) {
		t.Errorf("got %v", err)
	}
	if _, _, err := giveState(s, apdu.CUID{9}, token.Damaged); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("no such token: %v", err)
	}
	var got []string
	for _, e := range s.audit.(*memoryAudit).events {
		if e.Name == "TOKEN_STATE_CHANGE" {
			got = append(got, strings.Join([]string{string(e.Outcome), e.Subject, e.IP, e.CUID, e.Fields["old_state"], e.Fields["new_state"], e.Fields["new_reason"]}, " "))
		}
	}
	who := " gus 192.0.2.7 " + c.CUID.String()
	want := []string{"attempt" + who + " ACTIVE DAMAGED destroyed", "success" + who + " ACTIVE DAMAGED destroyed",
		"attempt" + who + " DAMAGED ACTIVE ", "failure" + who + " DAMAGED ACTIVE "}
	if !slices.Equal(got, want) {
		t.Errorf("audit %q", got)
	}
	acts, err := s.db.Activities(t.Context(), token.Filter{CUID: &c.CUID})
	must(t, err)
	if len(acts) != 3 || acts[0].Success || acts[1].Operation != "token_status_change" || acts[1].Message != "from ACTIVE to DAMAGED" ||
		acts[1].UserID != "gus" || acts[2].Operation != "cert_revocation" {
		t.Errorf("activities %+v", acts)
	}
	s.audit = &shortAudit{}
	if _, _, err := giveState(s, c.CUID, token.PermLost); err == nil {
		t.Error("changed without an audit record")
	}
	if rec, cert := stored(s, c); rec.State != token.Damaged || cert.Reason != 0 {
		t.Errorf("token %s, certificate reason %d", rec.State, cert.Reason)
	}
}

// TestLostExpired: what has expired needs no revocation.
func TestLostExpired(t *testing.T) {
	t.Parallel()
	s, d, c := issued(t, token.CertActive)
	c.NotAfter = time.Now().Add(-time.Hour)
	_, err := s.db.ReplaceCertificate(t.Context(), c)
	must(t, err)
	_, certs, err := giveState(s, c.CUID, token.PermLost)
	must(t, err)
	if _, cert := stored(s, c); len(certs) != 0 || len(d.asked) != 0 || cert.State != token.CertActive {
		t.Errorf("told %+v, authority asked %v, certificate %s", certs, d.asked, cert.State)
	}
}
