package local_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
	"inkan/tks/tkstest"
)

// journal is an audit log in memory.
type journal struct {
	mu     sync.Mutex
	events []local.Event
	fail   error
}

func (j *journal) record(_ context.Context, e local.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	return j.fail
}

// TestAudit: every use is recorded before it is answered, with who, what and how
// it ended.
func TestAudit(t *testing.T) {
	t.Parallel()
	var j journal
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := newService(t, local.Config{Audit: j.record, Now: func() time.Time { return now }, Peer: func(context.Context) string { return "tps-1" }})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	c := tkstest.NewCard(3, 0x70)
	c.Check(t, s)
	if _, err := s.Encrypt(t.Context(), tks.EncryptRequest{CardProof: c.Proof(t), Data: secret.Random(16)}); err != nil {
		t.Fatal(err)
	}
	c.Changeover(t, s, "site", 2)
	bad := c.Proof(t)
	bad.CardCryptogram[0] ^= 1
	if _, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: bad}); err == nil {
		t.Fatal("wrong cryptogram passed")
	}
	if err := s.Release(t.Context(), c.KDD, "agent"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TKS_CREATE_KEY_SET tps-1 site 02 <nil>",
		"TKS_DERIVE_SESSION tps-1 factory FF <nil>",
		"TKS_ENCRYPT tps-1 factory FF <nil>",
		"TKS_WRAP_KEY_SET tps-1 factory FF site 02 <nil>",
		"TKS_DERIVE_SESSION tps-1 site 02 card cryptogram does not verify",
		"TKS_RELEASE_CARD agent  00 <nil>",
	}
	if len(j.events) != len(want) {
		t.Fatalf("%d events: %+v", len(j.events), j.events)
	}
	for i, e := range j.events {
		got := fmt.Sprintf("%s %s %s %v", e.Operation, e.Peer, e.KeySet, e.KeyVersion)
		if e.NewKeySet != "" {
			got += fmt.Sprintf(" %s %v", e.NewKeySet, e.NewKeyVersion)
		}
		if errors.Is(e.Err, tks.ErrCryptogram) {
			got += " card cryptogram does not verify"
		} else {
			got += fmt.Sprintf(" %v", e.Err)
		}
		if got != want[i] || !e.Time.Equal(now) {
			t.Errorf("event %d: %s at %v, want %s", i, got, e.Time, want[i])
		}
		if i > 0 && e.KDD != c.KDD {
			t.Errorf("event %d: of card %v", i, e.KDD)
		}
	}
}

// TestNothingWithoutAudit: what cannot be recorded is not handed out.
func TestNothingWithoutAudit(t *testing.T) {
	t.Parallel()
	j := journal{}
	s := newService(t, local.Config{Audit: j.record})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	j.fail = errors.New("disk full")
	c := tkstest.NewCard(3, 0x70)
	r, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: c.Proof(t)})
	if !errors.Is(err, tks.ErrUnavailable) || r.ENC.Len()+r.MAC.Len()+r.RMAC.Len() > 0 {
		t.Errorf("DeriveSession: %v", err)
	}
	e, err := s.Encrypt(t.Context(), tks.EncryptRequest{CardProof: c.Proof(t), Data: secret.Random(16)})
	if !errors.Is(err, tks.ErrUnavailable) || len(e.Data) > 0 {
		t.Errorf("Encrypt: %v", err)
	}
	w, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: "site", NewKeyVersion: 2})
	if !errors.Is(err, tks.ErrUnavailable) || len(w.Data) > 0 {
		t.Errorf("WrapKeySet: %v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	peer := "a"
	s := newService(t, local.Config{
		Now: func() time.Time { return now }, Peer: func(context.Context) string { return peer },
		Limits: local.Limits{Peer: local.Limit{Every: time.Second, Burst: 5}, Card: local.Limit{Every: time.Minute, Burst: 2}},
	})
	one, two := tkstest.NewCard(3, 0x70), tkstest.NewCard(3, 0x70)
	ask := func(c *tkstest.Card) error {
		_, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: c.Proof(t)})
		return err
	}
	for i, c := range []struct {
		card   *tkstest.Card
		denied bool
	}{{one, false}, {one, false}, {one, true}, {two, false}, {two, false}, {tkstest.NewCard(3, 0x70), true}} {
		if err := ask(c.card); errors.Is(err, tks.ErrDenied) != c.denied {
			t.Errorf("request %d: %v, denied should be %v", i, err, c.denied)
		}
	}
	peer = "b"
	if err := ask(tkstest.NewCard(3, 0x70)); err != nil {
		t.Errorf("another peer: %v", err)
	}
	now = now.Add(time.Minute)
	if err := ask(one); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// TestSharedMaster: cards under an undiversified master key are served, but it is
// given to none, and what is keyed from it counts as keyed from published keys.
func TestSharedMaster(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "old", Version: 1, KDF: kdf.None}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "bycuid", Version: 1, KDF: kdf.KDF3 | kdf.UseCUID}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "piv", Version: 1, KDF: kdf.PIV}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	s := newService(t, local.Config{Vault: store})
	c := tkstest.NewCard(3, 0x70)
	for set, want := range map[tks.KeySetName]error{"old": tks.ErrDenied, "bycuid": apdu.ErrUnsupported, "piv": apdu.ErrUnsupported} {
		r, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: set, NewKeyVersion: 1})
		if !errors.Is(err, want) || len(r.Data) > 0 {
			t.Errorf("%s: %v, want %v", set, err, want)
		}
	}
	if err := s.TestKeySet(t.Context(), "old", 1); err != nil {
		t.Errorf("testing an undiversified set: %v", err)
	}
	if err := s.TestKeySet(t.Context(), "piv", 1); err != nil {
		t.Errorf("testing a set of PIV secrets: %v", err)
	}
	if err := s.TestKeySet(t.Context(), "bycuid", 1); err != nil {
		t.Errorf("testing a set diversified by CUID: %v", err)
	}
}

// TestMastersPerSlot: three master keys make a version; one or two of them do not.
func TestMastersPerSlot(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	s := newService(t, local.Config{Vault: store})
	for _, slot := range kdf.Slots() {
		if err := s.TestKeySet(t.Context(), "three", 1); !errors.Is(err, tks.ErrUnknownKeyVersion) {
			t.Errorf("before the %v key: %v, want ErrUnknownKeyVersion", slot, err)
		}
		if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "three", Version: 1, Slot: slot, KDF: kdf.KDF3}, hsm.AES256); err != nil {
			t.Fatal(err)
		}
	}
	c := tkstest.NewCard(3, 0x70)
	c.Changeover(t, s, "three", 1)
	c.Check(t, s)
	if _, err := s.CreateKeySet(t.Context(), "three", 1, hsm.AES256); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("a fourth key: %v, want ErrExists", err)
	}
	if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "three", Version: 1, KDF: kdf.KDF3}, hsm.AES256); err != nil {
		t.Fatal(err)
	}
	if err := newService(t, local.Config{Vault: store}).TestKeySet(t.Context(), "three", 1); err == nil {
		t.Error("an ambiguous version is used")
	}
}

// lying is a vault with one broken computation.
type lying struct {
	hsm.Vault
	err error // nil: wrong answers
}

type lyingWork struct {
	hsm.Work
	err error
}

func (l lying) Work(ctx context.Context) (hsm.Work, error) {
	w, err := l.Vault.Work(ctx)
	return lyingWork{w, l.err}, err
}

func (l lyingWork) CMAC(ctx context.Context, k hsm.Key, data []byte) ([]byte, error) {
	b, err := l.Work.CMAC(ctx, k, data)
	if err != nil || l.err != nil {
		return nil, errors.Join(err, l.err)
	}
	b[3] ^= 0x10
	return b, nil
}

// TestSelfTest: a vault that computes wrongly is not used; one that lacks a
// mechanism is used for what it can do.
func TestSelfTest(t *testing.T) {
	t.Parallel()
	if _, err := local.New(local.Config{Vault: lying{Vault: newStore(t)}, Ledger: newLedger(t)}); err == nil || !strings.Contains(err.Error(), "AES-CMAC") {
		t.Errorf("wrong answers: %v", err)
	}
	missing := &hsm.MechanismError{Token: "x", Operation: "compute AES-CMAC", Candidates: []hsm.Candidate{{Name: "CKM_AES_CMAC", Number: 0x108A, Reason: "gone"}}}
	store := newStore(t)
	s := newService(t, local.Config{Vault: lying{store, missing}})
	tkstest.NewCard(2, 0x15).Check(t, s)
	_, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: tkstest.NewCard(3, 0x70).Proof(t)})
	if err == nil || !strings.Contains(err.Error(), "CKM_AES_CMAC(0x108A)") {
		t.Errorf("%v does not name the mechanism", err)
	}
	if _, err := store.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if _, err := local.New(local.Config{Vault: lying{store, missing}, Ledger: newLedger(t)}); err == nil || !strings.Contains(err.Error(), "key set site version 02") {
		t.Errorf("a key set that cannot work: %v", err)
	}
}

func TestMinimumProtection(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	s := newService(t, local.Config{Vault: store, MinimumProtection: hsm.LevelB})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err == nil || !strings.Contains(err.Error(), "level D") {
		t.Errorf("created at level D: %v", err)
	}
	if _, err := newService(t, local.Config{Vault: store}).CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if _, err := local.New(local.Config{Vault: store, Ledger: newLedger(t), MinimumProtection: hsm.LevelB}); err == nil || !strings.Contains(err.Error(), "level D") {
		t.Errorf("started at level D: %v", err)
	}
	if _, err := local.New(local.Config{Vault: store}); err == nil {
		t.Error("started without a ledger")
	}
}

// brokenDB cannot say what is retired.
type brokenDB struct{}

var errDB = errors.New("no database")

func (brokenDB) Retired(context.Context, tks.KeySetName, gp.KeyVersion) (bool, error) {
	return false, errDB
}

func (brokenDB) Retire(context.Context, tks.KeySetName, gp.KeyVersion, string) error { return errDB }

func TestRetire(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	s := newService(t, local.Config{Vault: store})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if err := s.Retire(t.Context(), "site", 2, "x"); err == nil {
		t.Error("retired where nobody remembers it")
	}
	db := &tkstest.Retirements{}
	s = newService(t, local.Config{Vault: store, KeySets: db})
	for name, err := range map[string]error{
		"factory": s.Retire(t.Context(), "factory", 1, "x"),
		"unknown": s.Retire(t.Context(), "site", 9, "x"),
	} {
		if err == nil {
			t.Errorf("retired the %s set", name)
		}
	}
	if err := s.Retire(t.Context(), "site", 2, "x"); err != nil {
		t.Fatal(err)
	}
	if sets, err := s.KeySets(t.Context()); err != nil || len(sets) != 1 || !sets[0].Retired {
		t.Errorf("%+v, %v", sets, err)
	}
	s = newService(t, local.Config{Vault: store, KeySets: brokenDB{}})
	_, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: tkstest.NewCard(3, 0x70).Proof(t), NewKeySet: "site", NewKeyVersion: 2})
	if !errors.Is(err, tks.ErrUnavailable) || !errors.Is(err, errDB) {
		t.Errorf("no database: %v", err)
	}
}

// TestKeySetOfAnotherNode: a version that was made behind the service's back is found.
func TestKeySetOfAnotherNode(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	s := newService(t, local.Config{Vault: store})
	if _, err := newService(t, local.Config{Vault: store}).CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	c := tkstest.NewCard(3, 0x70)
	c.Changeover(t, s, "site", 2)
	c.Check(t, s)
}

// brokenLedger fails like a full disk.
type brokenLedger struct{ local.Ledger }

func (brokenLedger) Grant(context.Context, local.Grant) error { return tks.ErrUnavailable }

func TestNoKeysWithoutLedger(t *testing.T) {
	t.Parallel()
	s := newService(t, local.Config{Ledger: brokenLedger{newLedger(t)}})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	r, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: tkstest.NewCard(3, 0x70).Proof(t), NewKeySet: "site", NewKeyVersion: 2})
	if !errors.Is(err, tks.ErrUnavailable) || len(r.Data) > 0 {
		t.Errorf("%v, %d bytes", err, len(r.Data))
	}
}

func TestKeying(t *testing.T) {
	t.Parallel()
	s := newService(t, local.Config{})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	c := tkstest.NewCard(3, 0x70)
	if _, ok, err := s.Keying(t.Context(), c.KDD); ok || err != nil {
		t.Errorf("a new card was keyed: %v", err)
	}
	c.Changeover(t, s, "site", 2)
	e, ok, err := s.Keying(t.Context(), c.KDD)
	if err != nil || !ok || e.Completed || e.CUID != c.CUID || e.To != site2 {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	c.Check(t, s)
	if e, _, _ := s.Keying(t.Context(), c.KDD); !e.Completed {
		t.Error("the card has proved itself and the changeover is not complete")
	}
}
