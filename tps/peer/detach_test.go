package peer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"inkan/tps/peer"
)

// node is the id that a box has in the array of another one.
func (b *box) node(in *box) string {
	b.t.Helper()
	m, err := in.member(b)
	must(b.t, err)
	return m.Node
}

func (b *box) lefts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// TestDetach: the node ends its work, becomes an array of its own, keeps no secret of
// the old one, and gets nothing there any more.
func TestDetach(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := newBox(t, "tks1.example", peer.TKS)
	drained := make(chan string, 2)
	k.cfg.Drain = func(context.Context) error {
		_, err := p.get(k, "/tks/v1/random")
		drained <- err.Error()
		return nil
	}
	k.open()
	must(t, k.ask(p, peer.JoinOptions{}))
	k.run()
	p.converged()
	x := p.join("tks2.example", peer.TKS)
	must(t, p.SetDocuments(map[string][]byte{"ca.pem": []byte("shared")}))
	p.converged()
	same(t, "document", string(k.Documents()["ca.pem"]), "shared")
	_, err := p.get(k, "/tks/v1/random")
	must(t, err)

	id := k.node(p)
	must(t, p.Detach(t.Context(), id, false))
	if text := <-drained; !strings.Contains(text, "503") {
		t.Errorf("a call while it drains: %s", text)
	}
	st := p.converged()
	same(t, "members", len(st.Members), 2)
	_, err = p.get(k, "/tks/v1/random")
	if err == nil {
		t.Error("the array still calls it")
	}
	until(t, func() bool { s, ok := k.State(); return ok && k.Primary() && len(s.Members) == 1 }, func() string { return "it did not become an array of its own" })
	same(t, "secrets removed", k.lefts(), 1)
	same(t, "documents", len(k.Documents()), 0)
	ps, _ := p.State()
	ks, _ := k.State()
	if ks.ID == ps.ID || ks.CAs[0].Epoch != 1 || k.CAs()[0].Fingerprint == p.CAs()[0].Fingerprint {
		t.Errorf("the new array is %s with CA %v", ks.ID, k.CAs()[0].Fingerprint)
	}
	_, err = k.Client(ps.Primary).Get("https://tps1.example/array/v1/status")
	refused(t, "call of a former primary", err, peer.ErrUnknownNode)
	must(t, k.ask(p, peer.JoinOptions{})) // and it may come back
	p.converged()
	until(t, func() bool { return k.vault.labels() == 0 }, func() string { return "the key of the array of one is still there" })
	_, err = x.get(k, "/array/v1/status")
	must(t, err)
}

// TestDetachedGetsNothing: a node that was detached while it was away.
func TestDetachedGetsNothing(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	x := p.join("tps2.example", peer.TPS)
	k.halt()
	err := p.Detach(t.Context(), k.node(p), false)
	if err == nil || !strings.Contains(err.Error(), "by force") {
		t.Errorf("detaching a silent node: %v", err)
	}
	m, err := p.member(k)
	must(t, err)
	same(t, "state", m.State, peer.Active)
	must(t, p.Detach(t.Context(), m.Node, true))
	k.run()
	for _, at := range []*box{p, x} {
		_, err = k.get(at, "/array/v1/status")
		refused(t, "the detached node", err, peer.ErrNotAccepted)
		_, err = at.get(k, "/tks/v1/random")
		if err == nil {
			t.Error("the detached node is still called")
		}
	}
	must(t, k.DetachSelf(t.Context()))
	if !k.Primary() || k.lefts() != 1 {
		t.Errorf("after leaving: primary %v, secrets removed %d times", k.Primary(), k.lefts())
	}
	if err := p.DetachSelf(t.Context()); err == nil || !p.Primary() {
		t.Error("a primary has left its array")
	}
	if err := p.Detach(t.Context(), p.ID(), false); err == nil {
		t.Error("a primary has detached itself")
	}
	refused(t, "detach by a member", x.Detach(t.Context(), p.ID(), true), peer.ErrNotPrimary)
	refused(t, "detach of nobody", p.Detach(t.Context(), "nobody", true), peer.ErrUnknownNode)
}

// TestOpenConnectionsEnd: a connection that was open when its peer left is dropped,
// although it has a certificate that was good when it began.
func TestOpenConnectionsEnd(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tks1.example", peer.TKS)
	k := newBox(t, "tps1.example", peer.TPS)
	k.cfg.Interval = time.Hour // it keeps to itself
	k.open()
	must(t, k.ask(p, peer.JoinOptions{}))
	k.run()
	p.converged()
	_, err := k.get(p, "/tks/v1/random") // keeps a connection
	must(t, err)
	must(t, p.Detach(t.Context(), k.node(p), true))
	if text, err := k.get(p, "/tks/v1/random"); err == nil {
		t.Errorf("an open connection still works: %s", text)
	}
}
