package remote_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/remote"
)

// paths are those of the handler.
var paths = []string{"random", "session", "keyset", "encrypt", "secret", "keys", "signer/find", "signer/sign", "signer/generate", "signer/import", "signer/destroy",
	"ledger/grant", "ledger/complete", "ledger/release", "ledger/lookup", "ledger/page"}

// FuzzRequest: no body makes a handler panic, and what it does not understand is
// refused with a problem document.
func FuzzRequest(f *testing.F) {
	for i, body := range []string{
		`{"n":8}`, goodProof + `}`, goodProof + `,"new_key_set":"corp","new_key_version":"0A"}`, goodProof + `,"data":"00112233445566778899AABBCCDDEEFF"}`,
		`{"key_set":"site","key_version":"02","cuid":"494E4B4100000000004D","use":"puk","algorithm":"00"}`, `{}`, `{"label":"tms:ca:inkan:v01"}`,
		`{"label":"tms:sign:a:v01","key_id":"00","digest":"00","hash":"SHA-256","padding":"pss","salt_length":-1}`,
		`{"label":"tms:sign:a:v01","algorithm":"ec-p256"}`, `{"label":"tms:sign:a:v01","key":"3000"}`, `{"label":"tms:sign:a:v01"}`,
		`{"kdd":"00010203040506070809","cuid":"494E4B4100000000004D","from":{"set":"factory","version":"FF"},"to":{"set":"site","version":"02"},"time":"2026-11-22T00:00:00Z"}`,
		`{"kdd":"00010203040506070809","to":{"set":"site","version":"02"}}`, `{"kdd":"00010203040506070809","by":"agent"}`, `{"kdd":"00010203040506070809"}`, `{"from":0}`,
	} {
		f.Add(i, []byte(body))
	}
	f.Add(3, []byte(goodProof+`,"data":"é"}`))
	f.Add(3, []byte(`{"data":`))
	v, ledger := newStore(f), newLedger(f)
	h := newHandler(f, remote.HandlerConfig{Service: &stub{}, Signers: v, Ledger: ledger, Pages: ledger.Page, Identify: always("tps1", everything())})
	f.Fuzz(func(t *testing.T, path int, body []byte) {
		at := paths[((path%len(paths))+len(paths))%len(paths)]
		if at == "signer/generate" { // RSA keys take seconds
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/tks/v1/"+at, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		media := w.Header().Get("Content-Type")
		if (w.Code == http.StatusOK) != (media == "application/json") || w.Code != http.StatusOK && media != "application/problem+json" {
			t.Errorf("HTTP %d %s", w.Code, media)
		}
	})
}

// FuzzAnswer: no answer makes a client panic, or return keys of a wrong length.
func FuzzAnswer(f *testing.F) {
	f.Add(200, true, []byte(`{"enc":"000102030405060708090A0B0C0D0E0F","mac":"000102030405060708090A0B0C0D0E0F","rmac":""}`))
	f.Add(200, true, []byte(`{"data":"000102030405060708090A0B0C0D0E0F","kcvs":["000102","000102","000102"]}`))
	f.Add(200, true, []byte(`{"public_key":"3059301306072A8648CE3D020106082A8648CE3D03010703420004"}`))
	f.Add(200, true, []byte(`{"masters":[{"set":"site","version":"02","kdf":"kdf3","diversified":true,"kcv":"000000"}],"signers":[],"authority":""}`))
	f.Add(403, false, []byte(`{"type":"about:blank","title":"Forbidden","status":403,"detail":"no","error":"ErrDenied"}`))
	f.Add(501, false, []byte(`{"status":501,"detail":"no","error":"MechanismError","mechanism":{"candidates":[{"name":"x"}]}}`))
	f.Add(501, false, []byte(`{"status":501,"detail":"no","error":"MechanismError"}`))
	f.Fuzz(func(t *testing.T, status int, good bool, body []byte) {
		media := "application/problem+json"
		if good {
			media = "application/json"
		}
		c := newClient(t, remote.Config{Rest: time.Nanosecond}, through("tks1", says(status, media, string(body))))
		if r, err := c.DeriveSession(t.Context(), tks.SessionRequest{}); err == nil && (r.ENC.Len() < 16 || r.ENC.Len() != r.MAC.Len()) {
			t.Error("keys of a wrong length")
		}
		if r, err := c.WrapKeySet(t.Context(), tks.KeySetRequest{}); err == nil && len(r.Data) == 0 {
			t.Error("no data")
		}
		if r, err := c.Encrypt(t.Context(), tks.EncryptRequest{Data: secret.Random(16)}); err == nil && len(r.Data) != 16 {
			t.Error("data of a wrong length")
		}
		if b, err := c.Random(t.Context(), 8); err == nil && len(b) != 8 {
			t.Error("few random bytes")
		}
		c.CardSecret(t.Context(), tks.SecretRequest{})
		c.Fingerprint(t.Context())
		if s, err := c.Signers().Signer(t.Context(), "tms:ca:inkan:v01"); err == nil && s.Public() == nil {
			t.Error("no public key")
		}
		c.Check(t.Context())
	})
}
