package remote_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/remote"
)

// signerNode is a node with key pairs whose uses are counted by name.
func signerNode(t *testing.T, name string, v hsm.Signers, grant remote.Grant, events *[]remote.Event) remote.Node {
	return direct(name, newHandler(t, remote.HandlerConfig{
		Service: &stub{}, Signers: v, Identify: always("tps1", grant),
		Audit: func(_ context.Context, e remote.Event) error {
			if events != nil {
				*events = append(*events, e)
			}
			return nil
		},
	}))
}

// TestLabels: the authority's key pairs can be used, the realm's made and destroyed
// too, and nothing else is within reach; all of it is recorded.
func TestLabels(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	for _, l := range []hsm.SignerLabel{"tms:ca:inkan:v01", "tms:sign:a:v01"} {
		_, err := v.GenerateSigner(t.Context(), l, hsm.P256)
		must(t, err)
	}
	_, err := v.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: 1}, hsm.AES128)
	must(t, err)
	var events []remote.Event
	s := newClient(t, remote.Config{}, signerNode(t, "tks1", v, everything(), &events)).Signers()
	digest := sha256.Sum256([]byte("message"))
	for _, l := range []hsm.SignerLabel{"tms:ca:inkan:v01", "tms:sign:a:v01"} {
		k, err := s.Signer(t.Context(), l)
		must(t, err)
		_, err = k.Sign(nil, digest[:], crypto.SHA256)
		must(t, err)
	}
	if len(events) != 4 || events[1].Call != "signer/sign" || events[1].Label != "tms:ca:inkan:v01" || events[1].Peer != "tps1" || events[1].Err != nil {
		t.Errorf("recorded %+v", events)
	}
	for name, f := range map[string]func() error{
		"find master":       func() error { _, err := s.Signer(t.Context(), "tms:master:site:v02"); return err },
		"find array CA":     func() error { _, err := s.Signer(t.Context(), "tms:peerca:inkan:v01"); return err },
		"find seal":         func() error { _, err := s.Signer(t.Context(), "tms:seal:00000000:v01"); return err },
		"find any":          func() error { _, err := s.Signer(t.Context(), "my key"); return err },
		"find nothing":      func() error { _, err := s.Signer(t.Context(), ""); return err },
		"generate CA":       func() error { _, err := s.GenerateSigner(t.Context(), "tms:ca:inkan:v02", hsm.P256); return err },
		"generate array CA": func() error { _, err := s.GenerateSigner(t.Context(), "tms:peerca:inkan:v02", hsm.P256); return err },
		"destroy CA":        func() error { return s.DestroySigner(t.Context(), "tms:ca:inkan:v01") },
		"destroy master":    func() error { return s.DestroySigner(t.Context(), "tms:master:site:v02") },
	} {
		events = nil
		if err := f(); !errors.Is(err, tks.ErrDenied) || len(events) != 1 || !errors.Is(events[0].Err, tks.ErrDenied) {
			t.Errorf("%s: %v, recorded %+v", name, err, events)
		}
	}
	if _, err := v.Signer(t.Context(), "tms:ca:inkan:v01"); err != nil {
		t.Error(err)
	}
}

// TestSignGrant: who may sign only may not make keys.
func TestSignGrant(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	_, err := v.GenerateSigner(t.Context(), "tms:sign:a:v01", hsm.P256)
	must(t, err)
	grant := remote.Grant{Methods: []remote.Method{remote.MethodSign}}
	s := newClient(t, remote.Config{}, signerNode(t, "tks1", v, grant, nil)).Signers()
	_, err = s.Signer(t.Context(), "tms:sign:a:v01")
	must(t, err)
	if _, err := s.GenerateSigner(t.Context(), "tms:sign:b:v01", hsm.P256); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("%v, want ErrDenied", err)
	}
	if err := s.DestroySigner(t.Context(), "tms:sign:a:v01"); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("%v, want ErrDenied", err)
	}
}

// TestSignersOfTwo: nodes with HSMs of their own. A key pair is found where it is,
// and never mistaken for another of its label; it is destroyed everywhere.
func TestSignersOfTwo(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	nodes := []remote.Node{signerNode(t, "tks1", a, everything(), nil), signerNode(t, "tks2", b, everything(), nil)}
	digest := sha256.Sum256([]byte("message"))
	for i, v := range []hsm.Signers{a, b} {
		l := hsm.SignerLabel(fmt.Sprintf("tms:sign:only%d:v01", i))
		made, err := v.GenerateSigner(t.Context(), l, hsm.P256)
		must(t, err)
		for range 4 { // whichever node is asked first
			found, err := newClient(t, remote.Config{}, nodes...).Signers().Signer(t.Context(), l)
			must(t, err)
			if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(found.Public()) {
				t.Error("found another key")
			}
			_, err = found.Sign(nil, digest[:], crypto.SHA256)
			must(t, err)
		}
	}
	s := newClient(t, remote.Config{}, nodes[1]).Signers()
	k, err := newClient(t, remote.Config{}, nodes[0]).Signers().GenerateSigner(t.Context(), "tms:sign:twice:v01", hsm.P256)
	must(t, err)
	_, err = b.GenerateSigner(t.Context(), "tms:sign:twice:v01", hsm.P256)
	must(t, err)
	_, err = k.Sign(nil, digest[:], crypto.SHA256)
	must(t, err)
	both := newClient(t, remote.Config{}, nodes...).Signers()
	must(t, both.DestroySigner(t.Context(), "tms:sign:twice:v01"))
	for _, v := range []hsm.Signers{a, b} {
		if _, err := v.Signer(t.Context(), "tms:sign:twice:v01"); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a destroyed key: %v", err)
	}
	if err := both.DestroySigner(t.Context(), "tms:sign:twice:v01"); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	must(t, s.DestroySigner(t.Context(), "tms:sign:only1:v01"))
	gone := through("tks3", refuses)
	some := newClient(t, remote.Config{}, nodes[0], gone).Signers()
	if err := some.DestroySigner(t.Context(), "tms:sign:only0:v01"); !errors.Is(err, tks.ErrUnavailable) || !strings.Contains(err.Error(), "tks3") {
		t.Errorf("with a node gone: %v", err)
	}
	if _, err := some.Signer(t.Context(), "tms:sign:none:v01"); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("nobody knows whether the node that is gone has it: %v", err)
	}
}

// TestMadeOnce: a key pair is not made a second time at another node, unless the
// first certainly did not get the request.
func TestMadeOnce(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	lost := 0
	half := through("tks1", func(r *http.Request) (*http.Response, error) {
		lost++
		return says(502, "text/plain", "")(r)
	})
	s := newClient(t, remote.Config{}, half).Signers()
	if _, err := s.GenerateSigner(t.Context(), "tms:sign:a:v01", hsm.P256); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	well := signerNode(t, "tks2", v, everything(), nil)
	for range 20 {
		c := newClient(t, remote.Config{}, half, well)
		before := lost
		l := hsm.SignerLabel(fmt.Sprintf("tms:sign:b%d:v01", lost))
		_, err := c.Signers().GenerateSigner(t.Context(), l, hsm.P256)
		if (lost > before) != errors.Is(err, tks.ErrUnavailable) {
			t.Errorf("the first node got it: %v; %v", lost > before, err)
		}
		if err == nil {
			must(t, v.DestroySigner(t.Context(), l))
		}
	}
	_, err := newClient(t, remote.Config{}, through("tks1", refuses), well).Signers().GenerateSigner(t.Context(), "tms:sign:c:v01", hsm.P256)
	must(t, err)
}

// TestSignRefuses: a digest that is none, and forms that a client of ours never sends.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	k, err := v.GenerateSigner(t.Context(), "tms:sign:a:v01", hsm.P256)
	must(t, err)
	id, err := hsm.PublicKeyID(k.Public())
	must(t, err)
	found, err := newClient(t, remote.Config{}, signerNode(t, "tks1", v, everything(), nil)).Signers().Signer(t.Context(), "tms:sign:a:v01")
	must(t, err)
	for _, opts := range []crypto.SignerOpts{crypto.SHA1, crypto.SHA384, crypto.Hash(0), &rsa.PSSOptions{Hash: crypto.SHA1}} {
		if _, err := found.Sign(rand.Reader, make([]byte, 32), opts); err == nil {
			t.Errorf("signed with %v", opts)
		}
	}
	h := newHandler(t, remote.HandlerConfig{Service: &stub{}, Signers: v, Identify: always("tps1", everything())})
	form := `{"label":"tms:sign:a:v01","key_id":"%X","digest":"%X","hash":"%s","padding":"%s"}`
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"good":    {fmt.Sprintf(form, id, make([]byte, 32), "SHA-256", ""), 200},
		"key":     {fmt.Sprintf(form, id[1:], make([]byte, 32), "SHA-256", ""), 404},
		"hash":    {fmt.Sprintf(form, id, make([]byte, 20), "SHA-1", ""), 400},
		"length":  {fmt.Sprintf(form, id, make([]byte, 31), "SHA-256", ""), 400},
		"message": {fmt.Sprintf(form, id, make([]byte, 32), "", ""), 400},
		"padding": {fmt.Sprintf(form, id, make([]byte, 32), "SHA-256", "oaep"), 400},
	} {
		if res, body := call(t, h, "signer/sign", c.body); res.StatusCode != c.status {
			t.Errorf("%s: HTTP %d %v, want %d", name, res.StatusCode, body, c.status)
		}
	}
	for _, path := range []string{"signer/generate", "signer/import"} {
		extra := map[string]string{"signer/generate": `"algorithm":"rsa-512"`, "signer/import": `"key":"00"`}[path]
		if res, body := call(t, h, path, `{"label":"tms:sign:b:v01",`+extra+`}`); res.StatusCode != 400 {
			t.Errorf("%s: HTTP %d %v", path, res.StatusCode, body)
		}
	}
}

// TestMechanism: what a token cannot do comes over with all that it says.
func TestMechanism(t *testing.T) {
	t.Parallel()
	want := &hsm.MechanismError{Token: "tok", Operation: "make an Ed25519 key", Candidates: []hsm.Candidate{{Name: "CKM_X", Number: 1, Reason: "no"}}, Remedy: "buy another"}
	s := newClient(t, remote.Config{}, signerNode(t, "tks1", lacking{err: want}, everything(), nil)).Signers()
	_, err := s.GenerateSigner(t.Context(), "tms:sign:a:v01", hsm.Ed25519)
	var got *hsm.MechanismError
	if !errors.As(err, &got) || got.Error() != want.Error() {
		t.Errorf("%v, want %v", err, want)
	}
}

// lacking is a token that lacks mechanisms.
type lacking struct {
	hsm.Signers
	err error
}

func (l lacking) GenerateSigner(context.Context, hsm.SignerLabel, hsm.Algorithm) (crypto.Signer, error) {
	return nil, l.err
}
