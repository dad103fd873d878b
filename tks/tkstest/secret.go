package tkstest

import (
	"context"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/tks"
)

// pivCard is a card that has no card manager's keys.
var pivCard = apdu.CUID{0xFF, 0xFF, 'Y', 'K', 0, 0, 0xF0, 0, 0, 1}

// testCardSecret: management keys and PUKs come out of key sets made for them and out
// of no others; each card has its own.
func testCardSecret(t *testing.T, f Fixture) {
	for name, c := range map[string]struct {
		req  tks.SecretRequest
		want error
	}{
		"published keys":    {tks.SecretRequest{KeySet: tks.Factory, KeyVersion: 1, CUID: pivCard, Use: tks.PUK}, tks.ErrDenied},
		"card manager keys": {tks.SecretRequest{KeySet: Site, KeyVersion: 2, CUID: pivCard, Use: tks.PUK}, tks.ErrDenied},
		"no such version":   {tks.SecretRequest{KeySet: Site, KeyVersion: 0x7D, CUID: pivCard, Use: tks.PUK}, tks.ErrUnknownKeyVersion},
		"no such set":       {tks.SecretRequest{KeySet: "Nobody", KeyVersion: 1, CUID: pivCard, Use: tks.PUK}, tks.ErrUnknownKeyVersion},
	} {
		if r, err := f.Service.CardSecret(t.Context(), c.req); !errors.Is(err, c.want) || r.Secret.Len() != 0 {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if f.Secrets.Set == "" {
		return
	}
	seen := map[string]string{}
	for _, c := range []struct {
		name string
		use  tks.Use
		alg  byte
		n    int
	}{
		{"PUK", tks.PUK, 0, 8}, {"3DES", tks.ManagementKey, 0x03, 24}, {"AES-128", tks.ManagementKey, 0x08, 16},
		{"AES-192", tks.ManagementKey, 0x0A, 24}, {"AES-256", tks.ManagementKey, 0x0C, 32},
	} {
		other := pivCard
		other[9] = 2
		for _, cuid := range []apdu.CUID{pivCard, other} {
			req := tks.SecretRequest{KeySet: f.Secrets.Set, KeyVersion: f.Secrets.Version, CUID: cuid, Use: c.use, Algorithm: c.alg}
			r, err := f.Service.CardSecret(t.Context(), req)
			if err != nil || r.Secret.Len() != c.n {
				t.Fatalf("%s of %v: %d bytes, %v", c.name, cuid, r.Secret.Len(), err)
			}
			again, err := f.Service.CardSecret(t.Context(), req)
			if err != nil || !again.Secret.Equal(r.Secret) {
				t.Errorf("%s of %v is another one when asked again: %v", c.name, cuid, err)
			}
			text := string(r.Secret.Bytes())
			if what, twice := seen[text]; twice {
				t.Errorf("%s of %v is the %s as well", c.name, cuid, what)
			}
			seen[text] = c.name + " of " + cuid.String()
		}
	}
	for name, spoil := range map[string]func(*tks.SecretRequest){
		"no algorithm": func(r *tks.SecretRequest) { r.Use, r.Algorithm = tks.ManagementKey, 0x11 },
		"no use":       func(r *tks.SecretRequest) { r.Use = "signature" },
	} {
		req := tks.SecretRequest{KeySet: f.Secrets.Set, KeyVersion: f.Secrets.Version, CUID: pivCard, Use: tks.PUK}
		spoil(&req)
		if r, err := f.Service.CardSecret(t.Context(), req); err == nil || r.Secret.Len() != 0 {
			t.Errorf("%s: a secret was handed out", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Service.CardSecret(ctx, tks.SecretRequest{KeySet: f.Secrets.Set, KeyVersion: f.Secrets.Version, CUID: pivCard, Use: tks.PUK}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
