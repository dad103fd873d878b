package local_test

import (
	"errors"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
)

// TestCardSecret: secrets are limited per card and recorded, and what cannot be
// recorded is not handed out. What they are is in tkstest.
func TestCardSecret(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := journal{}
	s := newService(t, local.Config{
		Now: func() time.Time { return now }, Audit: j.record, Limits: local.Limits{Card: local.Limit{Every: time.Minute, Burst: 2}},
	})
	if _, err := s.Create(t.Context(), local.NewKeySet{Name: "piv", Version: 1, Type: hsm.AES128, KDF: kdf.PIV}); err != nil {
		t.Fatal(err)
	}
	if err := s.TestKeySet(t.Context(), "piv", 1); err != nil {
		t.Error(err)
	}
	ask := func(cuid apdu.CUID, use tks.Use) error {
		r, err := s.CardSecret(t.Context(), tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: cuid, Use: use, Algorithm: 0x0A})
		if err != nil && r.Secret.Len() > 0 {
			t.Error("a secret with an error")
		}
		return err
	}
	one, two := apdu.CUID{1}, apdu.CUID{2}
	for i, c := range []struct {
		cuid apdu.CUID
		want error
	}{{one, nil}, {one, nil}, {one, tks.ErrDenied}, {two, nil}} {
		if err := ask(c.cuid, tks.PUK); !errors.Is(err, c.want) {
			t.Errorf("request %d: %v, want %v", i, err, c.want)
		}
	}
	now = now.Add(time.Hour)
	if err := ask(one, tks.ManagementKey); err != nil {
		t.Error(err)
	}
	seen := map[local.Operation]int{}
	for _, e := range j.events {
		if e.KeySet == "piv" && !e.CUID.IsZero() {
			seen[e.Operation]++
		}
	}
	if seen["TKS_PIV_PUK"] != 4 || seen["TKS_PIV_MANAGEMENT_KEY"] != 1 {
		t.Errorf("recorded %v", seen)
	}
	j.fail = errors.New("disk full")
	if err := ask(two, tks.PUK); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("without a record: %v", err)
	}
}
