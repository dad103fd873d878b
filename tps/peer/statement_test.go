package peer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/peer"
)

// TestStatement: any change to a promotion's statement is noticed.
func TestStatement(t *testing.T) {
	t.Parallel()
	p := newBox(t, "tps1.example", peer.TPS)
	file := filepath.Join(t.TempDir(), "recovery.pem")
	must(t, p.Init(t.Context(), "site", peer.InitOptions{RecoveryFile: file}))
	p.run()
	q, k := p.join("tps2.example", peer.TPS), p.join("tks1.example", peer.TKS)
	before, _ := k.State()
	must(t, p.Promote(t.Context(), q.node(p)))
	q.converged()
	s, _ := q.State()
	normal := *s.Promotion
	between, _ := k.State()
	q.halt()
	text, err := os.ReadFile(file)
	must(t, err)
	_, err = p.ForcePromote(t.Context(), secret.New(text))
	must(t, err)
	s, _ = p.State()
	forced := *s.Promotion

	if _, err := peer.VerifyStatement(normal, before); err != nil {
		t.Fatal(err)
	}
	if recovered, err := peer.VerifyStatement(forced, between); err != nil || !recovered {
		t.Fatalf("%v, %v", recovered, err)
	}
	for name, change := range map[string]func(*peer.Statement){
		"array":            func(s *peer.Statement) { s.Array = s.Primary },
		"epoch":            func(s *peer.Statement) { s.Epoch++ },
		"primary":          func(s *peer.Statement) { s.Primary = k.ID() },
		"new CA":           func(s *peer.Statement) { s.Authority = before.CAs[0].Certificate },
		"kind":             func(s *peer.Statement) { s.Forced = !s.Forced },
		"time":             func(s *peer.Statement) { s.Made = s.Made.Add(time.Second) },
		"another time":     func(s *peer.Statement) { s.Made = s.Made.Add(-30 * 24 * time.Hour) },
		"peer certificate": func(s *peer.Statement) { c, _ := k.Certificate(); s.Certificate = c.Raw },
		"no peer":          func(s *peer.Statement) { s.Peer = nil },
		"peer":             func(s *peer.Statement) { s.Peer = flip(s.Peer) },
	} {
		for _, c := range []struct {
			s   peer.Statement
			own peer.State
		}{{normal, before}, {forced, between}} {
			change(&c.s)
			_, err := peer.VerifyStatement(c.s, c.own)
			refused(t, name, err, peer.ErrState)
		}
	}
	for name, old := range map[string][]byte{"no signature of the CA": nil, "another one": flip(normal.Old)} {
		x := normal
		x.Old = old
		_, err := peer.VerifyStatement(x, before)
		refused(t, name, err, peer.ErrState)
	}
	x := forced
	x.Recovery = flip(x.Recovery)
	if recovered, err := peer.VerifyStatement(x, between); recovered || err != nil {
		t.Errorf("wrong signature of the recovery key: %v, %v", recovered, err)
	}
	_, err = peer.VerifyStatement(normal, peer.State{ID: normal.Array})
	refused(t, "another array", err, peer.ErrState)
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// TestMembersAreNotPrimaries: a member that says what only the primary may say is not
// listened to, although its certificate is good.
func TestMembersAreNotPrimaries(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	s, _ := q.State()
	put := func(to *box, s peer.State) int {
		t.Helper()
		body, err := json.Marshal(map[string]any{"state": s, "documents": map[string][]byte{}})
		must(t, err)
		return q.send(to, http.MethodPut, "/array/v1/state", body)
	}
	same(t, "the same state", put(k, s), http.StatusOK)
	higher := s
	higher.Epoch += 100
	same(t, "a higher epoch", put(k, higher), http.StatusConflict)
	higher.Primary = q.ID()
	same(t, "itself as primary", put(k, higher), http.StatusConflict)
	higher.CAs = nil
	same(t, "malformed", put(k, higher), http.StatusConflict)
	same(t, "nothing", q.send(k, http.MethodPut, "/array/v1/state", []byte("{")), http.StatusBadRequest)
	same(t, "too much", q.send(k, http.MethodPut, "/array/v1/state", make([]byte, 3<<20)), http.StatusBadRequest)
	same(t, "drain", q.send(k, http.MethodPost, "/array/v1/drain", nil), http.StatusForbidden)
	same(t, "offer", q.send(k, http.MethodPost, "/array/v1/offer", []byte(`{"epoch":99}`)), http.StatusForbidden)
	same(t, "malformed offer", p.send(k, http.MethodPost, "/array/v1/offer", []byte(`{"epochs":99}`)), http.StatusBadRequest)
	same(t, "offer of the past", p.send(k, http.MethodPost, "/array/v1/offer", []byte(`{"epoch":1}`)), http.StatusConflict)
	same(t, "renewal by a member", q.send(k, http.MethodPost, "/array/v1/renew", []byte(`{"csr":"","address":"x:1","version":"1"}`)), http.StatusMisdirectedRequest)
	same(t, "renewal without a request", q.send(p, http.MethodPost, "/array/v1/renew", []byte(`{"csr":"","address":"x:1","version":"1"}`)), http.StatusBadRequest)
	same(t, "renewal without an address", q.send(p, http.MethodPost, "/array/v1/renew", []byte(`{"csr":"","address":"","version":"1"}`)), http.StatusBadRequest)
	same(t, "state of no epoch", q.send(p, http.MethodGet, "/array/v1/state?epoch=x", nil), http.StatusBadRequest)
	same(t, "unknown path", q.send(p, http.MethodGet, "/array/v1/x", nil), http.StatusNotFound)
	after := k.converged()
	same(t, "epoch", after.Epoch, s.Epoch)
	same(t, "hash", after.Hash, s.Hash())
}

// send makes a call and says its status.
func (b *box) send(to *box, method, path string, body []byte) int {
	b.t.Helper()
	m, err := b.member(to)
	must(b.t, err)
	req, err := http.NewRequestWithContext(b.t.Context(), method, m.URL()+path, bytes.NewReader(body))
	must(b.t, err)
	res, err := b.Client(m.Node).Do(req)
	must(b.t, err)
	res.Body.Close()
	return res.StatusCode
}

// edVault makes Ed25519 keys, as some HSMs do.
type edVault struct{ vault }

func (v *edVault) Generate(_ context.Context, label string) (crypto.Signer, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil {
		v.keys = map[string]crypto.Signer{}
	}
	v.keys[label] = k
	return k, err
}

// TestOtherKeys: the CA's key need not be ECDSA.
func TestOtherKeys(t *testing.T) {
	t.Parallel()
	p := newBox(t, "tps1.example", peer.TPS)
	p.cfg.CAKeys = &edVault{}
	p.open()
	must(t, p.Init(t.Context(), "site", peer.InitOptions{}))
	p.run()
	q := p.join("tps2.example", peer.TPS)
	must(t, p.Promote(t.Context(), q.node(p)))
	q.converged()
	must(t, q.Promote(t.Context(), p.node(q)))
	p.converged()
}
