package remote_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/remote"
)

// call posts a body to a handler and returns the answer and its decoded problem.
func call(t *testing.T, h http.Handler, path, body string) (*http.Response, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/tks/v1/"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: HTTP %d %s", path, w.Code, w.Body)
	}
	return w.Result(), out
}

const goodProof = `{"key_set":"site","cuid":"494E4B4100000000004D","kdd":"00010203040506070809","protocol":"SCP03","option":"70",` +
	`"key_version":"02","key_index":"00","counter":"000001","host_challenge":"0001020304050607","card_challenge":"0001020304050607","card_cryptogram":"0001020304050607"`

// TestWireForm is the form that the two ends agree on (B2.8): names in snake_case,
// bytes in upper-case hexadecimal, problem documents with the error's name.
func TestWireForm(t *testing.T) {
	t.Parallel()
	var got tks.KeySetRequest
	s := form{&stub{}, &got}
	h := newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())})
	res, body := call(t, h, "keyset", goodProof+`,"new_key_set":"corp","new_key_version":"0A"}`)
	want := tks.KeySetRequest{NewKeySet: "corp", NewKeyVersion: 0x0A, CardProof: tks.CardProof{
		KeySet: "site", CUID: apdu.CUID{'I', 'N', 'K', 'A', 9: 0x4D}, KDD: gp.KDD{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, Protocol: securechannel.SCP03,
		Option: 0x70, KeyVersion: 2, Counter: []byte{0, 0, 1}, HostChallenge: []byte{0, 1, 2, 3, 4, 5, 6, 7},
		CardChallenge: []byte{0, 1, 2, 3, 4, 5, 6, 7}, CardCryptogram: []byte{0, 1, 2, 3, 4, 5, 6, 7},
	}}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("came over as %+v, want %+v", got, want)
	}
	if res.StatusCode != http.StatusOK || body["data"] != "0AFF" || fmt.Sprint(body["kcvs"]) != "[ABCDEF 000001 000002]" {
		t.Errorf("HTTP %d %v", res.StatusCode, body)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/json"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s.answers(fmt.Errorf("wrapping: %w", tks.ErrCryptogram))
	res, body = call(t, h, "keyset", goodProof+`,"new_key_set":"corp","new_key_version":"0A"}`)
	if res.StatusCode != 422 || body["error"] != "ErrCryptogram" || body["status"] != 422.0 || body["type"] != "about:blank" ||
		body["detail"] != "wrapping: card cryptogram does not verify" || body["title"] == "" {
		t.Errorf("HTTP %d %v", res.StatusCode, body)
	}
	if res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", res.Header)
	}
}

// form is a service that keeps a request and answers known bytes.
type form struct {
	*stub
	got *tks.KeySetRequest
}

func (f form) WrapKeySet(_ context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	*f.got = r
	return tks.KeySetReply{Data: []byte{0x0A, 0xFF}, KCVs: [3]gp.KCV{{0xAB, 0xCD, 0xEF}, {0, 0, 1}, {0, 0, 2}}}, f.ask()
}

// TestStrict: what is not understood whole is not done.
func TestStrict(t *testing.T) {
	t.Parallel()
	s := &stub{}
	h := newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())})
	for name, c := range map[string][2]string{
		"unknown field":     {"session", goodProof + `,"more":1}`},
		"lower case":        {"session", strings.Replace(goodProof, "494E4B41", "494e4b41", 1) + `,"counter":"0a"}`},
		"odd":               {"encrypt", goodProof + `,"data":"000"}`},
		"secret no string":  {"encrypt", goodProof + `,"data":["00"]}`},
		"secret null":       {"encrypt", goodProof + `,"data":null}`},
		"secret lower case": {"encrypt", goodProof + `,"data":"0a"}`},
		"behind it":         {"session", goodProof + `}{}`},
		"not an object":     {"session", `[1]`},
		"cut":               {"session", goodProof},
		"nothing":           {"session", ``},
		"protocol":          {"session", strings.Replace(goodProof, "SCP03", "03", 1) + `}`},
		"option":            {"session", strings.Replace(goodProof, `"option":"70"`, `"option":"7000"`, 1) + `}`},
		"cuid":              {"session", strings.Replace(goodProof, "494E4B41", "494E4B", 1) + `}`},
		"number":            {"random", `{"n":"8"}`},
		"too large":         {"session", goodProof + strings.Repeat(" ", 65<<10) + `}`},
	} {
		res, body := call(t, h, c[0], c[1])
		if res.StatusCode != http.StatusBadRequest || body["error"] != "ErrRequest" {
			t.Errorf("%s: HTTP %d %v", name, res.StatusCode, body)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/tks/v1/random", strings.NewReader(`{"n":8}`))
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
		t.Errorf("without a media type: HTTP %d", w.Code)
	}
	for _, r := range []*http.Request{httptest.NewRequest(http.MethodGet, "/tks/v1/random", nil), httptest.NewRequest(http.MethodPost, "/tks/v1/masters", nil)} {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code < 400 {
			t.Errorf("%s %s: HTTP %d", r.Method, r.URL, w.Code)
		}
	}
	if s.calls() != 0 {
		t.Errorf("the service was asked %d times", s.calls())
	}
}

// TestAllowList: each call needs its method and every key set that it names; what is
// refused is recorded with the peer's name, and the service never hears of it.
func TestAllowList(t *testing.T) {
	t.Parallel()
	bodies := map[remote.Method][2]string{
		remote.MethodRandom: {"random", `{"n":8}`}, remote.MethodSession: {"session", goodProof + `}`},
		remote.MethodKeySet:  {"keyset", goodProof + `,"new_key_set":"corp","new_key_version":"02"}`},
		remote.MethodEncrypt: {"encrypt", goodProof + `,"data":"00112233445566778899AABBCCDDEEFF"}`},
		remote.MethodSecret:  {"secret", `{"key_set":"site","key_version":"02","cuid":"494E4B4100000000004D","use":"puk","algorithm":"00"}`},
		remote.MethodKeys:    {"keys", `{}`},
		remote.MethodSign:    {"signer/find", `{"label":"tms:ca:inkan:v01"}`},
		remote.MethodSigners: {"signer/destroy", `{"label":"tms:sign:a:v01"}`},
		remote.MethodLedger:  {"ledger/lookup", `{"kdd":"00010203040506070809"}`},
	}
	for _, m := range remote.Methods() {
		for _, g := range []struct {
			sets []tks.KeySetName
			only bool // the method alone is granted, else all the others
			want bool
		}{
			{[]tks.KeySetName{remote.AnyKeySet}, true, true},
			{[]tks.KeySetName{"corp", "site"}, true, true},
			{[]tks.KeySetName{remote.AnyKeySet}, false, false},
			{nil, true, m == remote.MethodRandom || m == remote.MethodKeys || m == remote.MethodSign || m == remote.MethodSigners || m == remote.MethodLedger},
			{[]tks.KeySetName{"site"}, true, m != remote.MethodKeySet},
		} {
			grant := remote.Grant{KeySets: g.sets}
			for _, other := range remote.Methods() {
				if (other == m) == g.only {
					grant.Methods = append(grant.Methods, other)
				}
			}
			s := &stub{}
			var events []remote.Event
			h := newHandler(t, remote.HandlerConfig{
				Service: s, Signers: noSigners{}, Ledger: newLedger(t), Identify: always("tps7", grant),
				Keys:  func(context.Context) (remote.Fingerprint, error) { return remote.Fingerprint{}, s.ask() },
				Audit: func(_ context.Context, e remote.Event) error { events = append(events, e); return nil },
			})
			res, body := call(t, h, bodies[m][0], bodies[m][1])
			if denied := body["error"] == "ErrDenied"; denied == g.want || denied != (res.StatusCode == http.StatusForbidden) {
				t.Errorf("%s with %+v: HTTP %d %v", m, grant, res.StatusCode, body)
			}
			if g.want {
				continue
			}
			if len(events) != 1 || events[0].Peer != "tps7" || events[0].Method != m || !errors.Is(events[0].Err, tks.ErrDenied) || s.calls() != 0 {
				t.Errorf("%s with %+v: recorded %+v, service asked %d times", m, grant, events, s.calls())
			}
			if !strings.Contains(body["detail"].(string), "tps7") {
				t.Errorf("%v does not say whose list it is", body)
			}
		}
	}
}

// noSigners has no key pairs.
type noSigners struct{ hsm.Signers }

func (noSigners) Signer(context.Context, hsm.SignerLabel) (crypto.Signer, error) {
	return nil, hsm.ErrNotFound
}

func (noSigners) DestroySigner(context.Context, hsm.SignerLabel) error { return hsm.ErrNotFound }

// TestIdentify: who cannot be identified is refused and recorded.
func TestIdentify(t *testing.T) {
	t.Parallel()
	why := errors.New("the certificate of tps9 was withdrawn")
	var events []remote.Event
	h := newHandler(t, remote.HandlerConfig{
		Service:  &stub{},
		Identify: func(*http.Request) (remote.Caller, error) { return remote.Caller{}, why },
		Audit:    func(_ context.Context, e remote.Event) error { events = append(events, e); return nil },
	})
	res, body := call(t, h, "random", `{"n":8}`)
	if res.StatusCode != http.StatusForbidden || body["error"] != "ErrDenied" || len(events) != 1 || !errors.Is(events[0].Err, why) {
		t.Errorf("HTTP %d %v, recorded %+v", res.StatusCode, body, events)
	}
	why = fmt.Errorf("the members are not known: %w", tks.ErrUnavailable)
	if res, _ := call(t, h, "random", `{"n":8}`); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("HTTP %d", res.StatusCode)
	}
	if _, err := remote.NewHandler(remote.HandlerConfig{Service: &stub{}}); err == nil {
		t.Error("a handler that identifies nobody was made")
	}
}

// TestCallsPerMinute: a peer gets its calls of a minute at once, then one by one; the
// other peers get theirs.
func TestCallsPerMinute(t *testing.T) {
	t.Parallel()
	now, peer := time.Unix(1_800_000_000, 0), "tps1"
	grant := everything()
	grant.CallsPerMinute = 60
	s := &stub{}
	h := newHandler(t, remote.HandlerConfig{
		Service: s, Now: func() time.Time { return now },
		Identify: func(*http.Request) (remote.Caller, error) { return remote.Caller{Name: peer, Grant: grant}, nil },
	})
	take := func() int {
		taken := s.calls()
		for range 100 {
			call(t, h, "random", `{"n":8}`)
		}
		return s.calls() - taken
	}
	if n := take(); n != 60 {
		t.Errorf("%d calls at once", n)
	}
	_, body := call(t, h, "session", goodProof+`}`)
	if body["error"] != "ErrDenied" || !strings.Contains(body["detail"].(string), "60 calls a minute") {
		t.Errorf("%v", body)
	}
	now = now.Add(5 * time.Second)
	if n := take(); n != 5 {
		t.Errorf("%d calls after 5 seconds", n)
	}
	if peer = "tps2"; take() != 60 {
		t.Error("another peer pays for the first")
	}
	if grant.CallsPerMinute = 0; take() != 100 {
		t.Error("bounded without a bound")
	}
}

// TestNotRecorded: what cannot be recorded is not handed out.
func TestNotRecorded(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	_, err := v.GenerateSigner(t.Context(), "tms:sign:a:v01", hsm.P256)
	must(t, err)
	h := newHandler(t, remote.HandlerConfig{
		Service: &stub{}, Signers: v, Identify: always("tps1", everything()),
		Audit: func(context.Context, remote.Event) error { return errors.New("disk full") },
	})
	res, body := call(t, h, "signer/find", `{"label":"tms:sign:a:v01"}`)
	if res.StatusCode != http.StatusServiceUnavailable || body["error"] != "ErrUnavailable" || body["public_key"] != nil {
		t.Errorf("HTTP %d %v", res.StatusCode, body)
	}
}

// TestNoSecretInText: neither refusals nor errors of the client show what was sent.
func TestNoSecretInText(t *testing.T) {
	t.Parallel()
	value := []byte("0123456789ABCDEF")
	s := &stub{}
	s.answers(errors.New("encrypting: the HSM does not like it\nat all\x1b[31m"))
	node := direct("tks1", newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())}))
	_, err := newClient(t, remote.Config{}, node).Encrypt(t.Context(), tks.EncryptRequest{Data: secret.New(bytes.Clone(value))})
	if err == nil || strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), string(value)) || strings.Contains(err.Error(), fmt.Sprintf("%X", value)) {
		t.Errorf("%q", err)
	}
	for _, spoilt := range []string{`,"data":"303132333435363738`, `,"data":"30313233343536373G"}`, `,"data":"3031323334353637383"}`} {
		r := httptest.NewRequest(http.MethodPost, "/tks/v1/encrypt", strings.NewReader(goodProof+spoilt))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())}).ServeHTTP(w, r)
		if out, _ := io.ReadAll(w.Result().Body); w.Code != http.StatusBadRequest || bytes.Contains(out, []byte("3031")) {
			t.Errorf("HTTP %d %s", w.Code, out)
		}
	}
}
