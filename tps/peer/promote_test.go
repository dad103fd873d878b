package peer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/peer"
	"inkan/tps/wire"
)

// load calls members without a pause until it is stopped, and fails the test for
// each call that fails.
func load(t *testing.T, from []*box, to []*box, path string) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var calls atomic.Int64
	for _, f := range from {
		for _, x := range to {
			if f == x {
				continue
			}
			for range 2 {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := f.get(x, path); err != nil {
							t.Errorf("call of %s to %s: %v", f.cfg.Name, x.cfg.Name, err)
						}
						calls.Add(1)
					}
				})
			}
		}
	}
	return func() int64 { cancel(); wg.Wait(); return calls.Load() }
}

func three(t *testing.T) (p, q, k *box) {
	t.Helper()
	p = primaryBox(t, "tps1.example", peer.TPS, peer.TKS)
	return p, p.join("tps2.example", peer.TPS, peer.TKS), p.join("tks1.example", peer.TKS)
}

// TestPromote: another primary, another CA, and no call fails meanwhile.
func TestPromote(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	old := p.CAs()[0].Fingerprint
	stop := load(t, []*box{p, q}, []*box{p, q, k}, "/tks/v1/random")
	must(t, p.Promote(t.Context(), q.node(p)))
	q.converged()
	calls := stop()
	if calls == 0 {
		t.Error("nothing was called")
	}
	if p.Primary() || !q.Primary() || k.Primary() {
		t.Errorf("primaries: %v %v %v", p.Primary(), q.Primary(), k.Primary())
	}
	for _, b := range []*box{p, q, k} {
		same(t, b.cfg.Name+" CAs", len(b.CAs()), 1)
		if b.CAs()[0].Fingerprint == old || b.CAs()[0].Fingerprint != q.CAs()[0].Fingerprint {
			t.Errorf("%s trusts %v", b.cfg.Name, b.CAs()[0].Fingerprint)
		}
	}
	until(t, func() bool { return p.vault.labels() == 0 }, func() string { return "the old CA's key is still there" })
	same(t, "keys of the new CA", q.vault.labels(), 1)
	_, err := p.Invite("x.example", []peer.Role{peer.TPS}, 0)
	refused(t, "invite of the former primary", err, peer.ErrNotPrimary)
	must(t, q.Promote(t.Context(), p.node(q))) // and back
	p.converged()
	x := p.join("tps3.example", peer.TPS)
	_, err = x.get(k, "/tks/v1/random")
	must(t, err)
	t.Logf("%d calls during the promotion, none failed", calls)
}

// TestRotateCA: the same primary, another CA, another domain.
func TestRotateCA(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	old := p.CAs()[0].Fingerprint
	stop := load(t, []*box{p, q}, []*box{p, q, k}, "/tks/v1/random")
	must(t, p.RotateCA(t.Context(), "elsewhere"))
	must(t, p.RotateCA(t.Context()))
	calls := stop()
	p.converged()
	for _, b := range []*box{p, q, k} {
		if cas := b.CAs(); len(cas) != 1 || cas[0].Fingerprint == old {
			t.Errorf("%s trusts %v", b.cfg.Name, cas)
		}
	}
	until(t, func() bool { return p.vault.labels() == 1 }, func() string { return "the keys of old CAs are still there" })
	x := p.join("tks2.elsewhere", peer.TKS)
	_, err := q.get(x, "/tks/v1/random")
	must(t, err)
	refused(t, "rotation by a member", q.RotateCA(t.Context()), peer.ErrNotPrimary)
	t.Logf("%d calls during two rotations, none failed", calls)
}

// TestJoinDuringPromotion: it is refused while the change runs, and succeeds after it.
func TestJoinDuringPromotion(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	k.halt() // so that the promotion hangs
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.halt()
	p.cfg.ChangeWait = 300 * time.Millisecond
	p.open()
	p.run()
	refused(t, "promotion while one member is silent", p.Promote(ctx, q.node(p)), peer.ErrBusy)
	k.run()
	p.converged()
	done := make(chan error, 1)
	go func() { done <- p.Promote(ctx, q.node(p)) }()
	x := newBox(t, "tks2.example", peer.TKS)
	var err error
	until(t, func() bool {
		s, _ := p.State()
		return len(s.CAs) > 1 || s.Primary != p.ID()
	}, func() string { return "the promotion does not begin" })
	code, inviteErr := p.Invite("tks2.example", []peer.Role{peer.TKS}, 0)
	if inviteErr == nil {
		err = x.Join(ctx, peer.JoinOptions{Primary: p.cfg.Address, Code: code, Fingerprint: p.CAs()[0].Fingerprint})
		if !errors.Is(err, peer.ErrBusy) && !errors.Is(err, peer.ErrNotPrimary) && !errors.Is(err, peer.ErrFingerprint) {
			t.Errorf("join during a promotion: %v", err)
		}
	} else {
		refused(t, "invite", inviteErr, peer.ErrNotPrimary)
	}
	must(t, <-done)
	q.converged()
	must(t, x.ask(q, peer.JoinOptions{}))
	x.run()
	q.converged()
}

// TestLostPrimary: a survivor takes over, the others after a confirmation; the old
// primary steps back when it returns and joins again.
func TestLostPrimary(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	p.halt()
	f, err := q.ForcePromote(t.Context(), secret.Secret{})
	must(t, err)
	until(t, func() bool { o, ok := k.Waiting(); return ok && o.Fingerprint == f }, func() string { return "nothing waits for a confirmation" })
	_, err = q.get(k, "/tks/v1/random") // the old certificates still do
	must(t, err)
	st, err := q.Status(t.Context())
	must(t, err)
	if st.Word == peer.Converged || !strings.Contains(st.Why, f.String()) {
		t.Errorf("status is %s: %s", st.Word, st.Why)
	}
	refused(t, "wrong confirmation", k.Confirm(wire.Fingerprint{}), peer.ErrFingerprint)
	k.restart() // the question survives
	must(t, k.Confirm(f))
	q.converged()
	same(t, "members", len(q.converged().Members), 2)
	if !q.Primary() || len(q.CAs()) != 1 || q.CAs()[0].Fingerprint != f || len(k.CAs()) != 1 {
		t.Errorf("after the promotion: %v, %v", q.CAs(), k.CAs())
	}
	p.run() // it lives
	until(t, func() bool { return p.Superseded() != nil }, func() string { return "the old primary has not stepped back" })
	refused(t, "old primary", p.Superseded(), peer.ErrSuperseded)
	if text := p.Superseded().Error(); !strings.Contains(text, q.cfg.Address) || !strings.Contains(text, "invite") {
		t.Errorf("it says %s", text)
	}
	_, err = p.Status(t.Context())
	refused(t, "status", err, peer.ErrSuperseded)
	_, err = p.Invite("x.example", []peer.Role{peer.TPS}, 0)
	refused(t, "invite", err, peer.ErrSuperseded)
	p.restart()
	refused(t, "after a restart", p.Superseded(), peer.ErrSuperseded)
	must(t, p.ask(q, peer.JoinOptions{}))
	same(t, "members", len(q.converged().Members), 3)
	until(t, func() bool { return p.vault.labels() == 0 }, func() string { return "the lost CA's key is still there" })
}

// TestStoppedFormerPrimary: it finds out by asking for the status too, where it cannot
// run without the others.
func TestStoppedFormerPrimary(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	p.halt()
	f, err := q.ForcePromote(t.Context(), secret.Secret{})
	must(t, err)
	until(t, func() bool { o, ok := k.Waiting(); return ok && o.Fingerprint == f }, func() string { return "nothing waits for a confirmation" })
	must(t, k.Confirm(f))
	q.converged()
	refused(t, "it joins", p.ask(q, peer.JoinOptions{}), peer.ErrInside)
	refused(t, "status", second(p.Status(t.Context())), peer.ErrSuperseded)
	must(t, p.ask(q, peer.JoinOptions{}))
	p.run()
	same(t, "members", len(q.converged().Members), 3)
}

// TestRecoveryKey: with it nobody is asked.
func TestRecoveryKey(t *testing.T) {
	t.Parallel()
	p := newBox(t, "tps1.example", peer.TPS)
	file := filepath.Join(t.TempDir(), "recovery.pem")
	must(t, p.Init(t.Context(), "site", peer.InitOptions{RecoveryFile: file}))
	info, err := os.Stat(file)
	must(t, err)
	same(t, "mode", info.Mode().Perm(), 0o600)
	p.run()
	q, k := p.join("tps2.example", peer.TPS), p.join("tks1.example", peer.TKS)
	p.halt()
	other := filepath.Join(t.TempDir(), "other.pem")
	must(t, newBox(t, "x.example", peer.TPS).Init(t.Context(), "other", peer.InitOptions{RecoveryFile: other}))
	for _, name := range []string{other, file} {
		text, err := os.ReadFile(name)
		must(t, err)
		if _, err = q.ForcePromote(t.Context(), secret.New(text)); (err == nil) != (name == file) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	q.converged()
	if s, _ := k.State(); s.Primary != q.ID() || len(s.CAs) != 1 {
		t.Errorf("the member follows %s", s.Primary)
	}
	again := newBox(t, "y.example", peer.TPS)
	if err := again.Init(t.Context(), "again", peer.InitOptions{RecoveryFile: file}); err == nil {
		t.Error("a recovery key was overwritten")
	}
}

// TestStragglers: a change of the CA waits for a member that cannot follow, a day at
// most.
func TestStragglers(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	k.killAt(1) // it answers and keeps nothing any more
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.RotateCA(ctx) }()
	until(t, k.killed, func() string { return "the change has not reached the member" })
	cancel()
	refused(t, "wait for the end", <-done, context.Canceled)
	same(t, "CAs", len(p.CAs()), 2)
	refused(t, "another change", p.RotateCA(expired(t)), peer.ErrBusy)
	until(t, func() bool { return len(q.CAs()) == 2 }, func() string { return "the other member has not followed" })
	asked := q.asked.Load() // and the primary knows it when it asks for the second time
	until(t, func() bool { return q.asked.Load() > asked+1 }, func() string { return "the other member is not asked" })
	p.clock.forward(25 * time.Hour)
	until(t, func() bool { _, err := p.member(k); return err != nil && len(p.CAs()) == 1 }, func() string { return fmt.Sprint(p.CAs()) })
	p.converged()
	if !slices.Equal(fingerprints(p), fingerprints(q)) {
		t.Errorf("%v and %v", p.CAs(), q.CAs())
	}
}

// expired is a context that ends soon.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func fingerprints(b *box) (fs []wire.Fingerprint) {
	for _, a := range b.CAs() {
		fs = append(fs, a.Fingerprint)
	}
	return fs
}
