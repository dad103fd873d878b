package peer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/peer"
)

// deed is something that changes an array of two, tps1 (primary) and tps2, or three.
type deed struct {
	victim func(a *array) *box
	// do begins it; it may fail, as the victim is killed in the midst of it.
	do func(ctx context.Context, a *array) error
	// again finishes it after the victim was started again, where that takes a person.
	again func(a *array) error
	// done says whether it has come to its end.
	done func(a *array) bool
}

type array struct {
	t       *testing.T
	p, q, x *box // x is the one that joins
	code    secret.Secret
	serial  string
}

func (a *array) join(ctx context.Context) error {
	if a.x.Members(peer.TPS) != nil {
		return nil
	}
	return a.x.Join(ctx, peer.JoinOptions{Primary: a.p.cfg.Address, Code: a.code, Fingerprint: a.p.CAs()[0].Fingerprint})
}

// detach takes the member out, unless the primary goes on with that meanwhile.
func (a *array) detach(force bool) error {
	m, err := a.p.member(a.q)
	if err != nil {
		return nil
	}
	if err = a.p.Detach(a.t.Context(), m.Node, force); errors.Is(err, peer.ErrUnknownNode) {
		return nil
	}
	return err
}

// leave has the member leave, unless the primary's last word reaches it meanwhile.
func (a *array) leave() error {
	alone := func() bool { s, _ := a.q.State(); return len(s.Members) < 2 }
	if alone() {
		return nil
	}
	if err := a.q.DetachSelf(a.t.Context()); err != nil && !alone() {
		return err
	}
	return nil
}

func (a *array) joined() bool {
	if _, ok := a.x.State(); ok && a.x.stop == nil {
		a.x.run()
	}
	m, err := a.p.member(a.x)
	return err == nil && m.State == peer.Active
}

var deeds = map[string]deed{
	"join, killed is the new node": {
		victim: func(a *array) *box { return a.x },
		do:     func(ctx context.Context, a *array) error { return a.join(ctx) },
		again:  func(a *array) error { return a.join(a.t.Context()) },
		done:   (*array).joined,
	},
	"join, killed is the primary": {
		victim: func(a *array) *box { return a.p },
		do:     func(ctx context.Context, a *array) error { return a.join(ctx) },
		again:  func(a *array) error { return a.join(a.t.Context()) },
		done:   (*array).joined,
	},
	"promote, killed is the old primary": {
		victim: func(a *array) *box { return a.p },
		do:     func(ctx context.Context, a *array) error { return a.p.Promote(ctx, a.q.node(a.p)) },
		again: func(a *array) error {
			if s, _ := a.p.State(); a.p.Primary() && len(s.CAs) == 1 { // it never began
				return a.p.Promote(a.t.Context(), a.q.node(a.p))
			}
			return nil
		},
		done: promoted,
	},
	"promote, killed is the new primary": {
		victim: func(a *array) *box { return a.q },
		do:     func(ctx context.Context, a *array) error { return a.p.Promote(ctx, a.q.node(a.p)) },
		again: func(a *array) error {
			if s, _ := a.p.State(); a.p.Primary() && len(s.CAs) == 1 {
				return a.p.Promote(a.t.Context(), a.q.node(a.p))
			}
			return nil
		},
		done: promoted,
	},
	"promote by force": {
		victim: func(a *array) *box { return a.q },
		do: func(ctx context.Context, a *array) error {
			a.p.halt()
			_, err := a.q.ForcePromote(ctx, secret.Secret{})
			return err
		},
		again: func(a *array) error {
			if !a.q.Primary() {
				_, err := a.q.ForcePromote(a.t.Context(), secret.Secret{})
				return err
			}
			return nil
		},
		done: func(a *array) bool {
			s, _ := a.q.State()
			return a.q.Primary() && len(s.CAs) == 1 && len(s.Members) == 1
		},
	},
	"rotate": {
		victim: func(a *array) *box { return a.p },
		do:     func(ctx context.Context, a *array) error { return a.p.RotateCA(ctx) },
		again: func(a *array) error {
			if s, _ := a.p.State(); len(s.CAs) == 1 && s.CAs[0].Epoch == 1 {
				return a.p.RotateCA(a.t.Context())
			}
			return nil
		},
		done: func(a *array) bool { s, _ := a.p.State(); return len(s.CAs) == 1 && s.CAs[0].Epoch > 1 },
	},
	"detach, killed is the primary": {
		victim: func(a *array) *box { return a.p },
		do:     func(ctx context.Context, a *array) error { return a.p.Detach(ctx, a.q.node(a.p), false) },
		again: func(a *array) error {
			if err := a.detach(false); err != nil {
				return err
			}
			return a.leave() // the last word may not have reached it
		},
		done: detached,
	},
	"detach, killed is the node": {
		victim: func(a *array) *box { return a.q },
		do:     func(ctx context.Context, a *array) error { return a.p.Detach(ctx, a.q.node(a.p), false) },
		again: func(a *array) error {
			if err := a.leave(); err != nil {
				return err
			}
			return a.detach(true)
		},
		done: detached,
	},
	"renew, killed is a member": {
		victim: func(a *array) *box { return a.q },
		do:     func(_ context.Context, a *array) error { a.p.clock.forward(126 * time.Hour); return nil },
		done:   func(a *array) bool { return a.q.serial() != a.serial && a.p.serial() != a.serial },
	},
	"renew, killed is the primary": {
		victim: func(a *array) *box { return a.p },
		do:     func(_ context.Context, a *array) error { a.p.clock.forward(126 * time.Hour); return nil },
		done:   func(a *array) bool { return a.q.serial() != a.serial && a.p.serial() != a.serial },
	},
}

func promoted(a *array) bool {
	s, _ := a.p.State()
	return a.q.Primary() && s.Primary == a.q.ID() && len(s.CAs) == 1
}

func detached(a *array) bool {
	s, _ := a.q.State()
	_, err := a.p.member(a.q)
	return err != nil && a.q.Primary() && len(s.Members) == 1
}

// TestKilled: a node that is killed at any write of a change starts again, the change
// ends, and nothing is left behind. With INKAN_REAL=1 it is any write, without it every
// seventh.
func TestKilled(t *testing.T) {
	t.Parallel()
	stride := 7
	if os.Getenv("INKAN_REAL") == "1" {
		stride = 1
	}
	for name, d := range deeds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 100
			at, kills := 1, 0
			for ; at < most && killedAt(t, d, at); at += stride {
				kills++
			}
			if kills == 0 || at >= most {
				t.Errorf("%d kills", kills)
			}
			t.Logf("%d kills", kills)
		})
	}
}

// killedAt does a deed and kills its victim at a step; false: there was no such step.
func killedAt(t *testing.T, d deed, at int) (killed bool) {
	t.Run(fmt.Sprintf("step=%d", at), func(t *testing.T) {
		a := &array{t: t, p: primaryBox(t, "tps1.example", peer.TPS), x: newBox(t, "tps3.example", peer.TPS)}
		a.q = a.p.join("tps2.example", peer.TPS)
		a.x.clock = a.p.clock
		a.serial = a.q.serial()
		var err error
		a.code, err = a.p.Invite("tps3.example", a.x.cfg.Roles, 0)
		must(t, err)
		v := d.victim(a)
		v.killAt(at)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.do(ctx, a) }()
		until(t, func() bool { return v.killed() || d.done(a) }, func() string { return "neither killed nor done" })
		if killed = v.spare(); killed {
			cancel()
		}
		if err := <-done; err != nil && !killed {
			t.Error(err)
		}
		cancel()
		if killed {
			running := v.stop != nil
			v.revive()
			if running {
				v.run()
			}
			if d.again != nil {
				must(t, d.again(a))
			}
		}
		until(t, func() bool { return d.done(a) }, func() string { return "not done" })
		a.whole()
	})
	return killed
}

// whole checks what has to be true of any array at rest.
func (a *array) whole() {
	a.t.Helper()
	for _, b := range []*box{a.p, a.q, a.x} {
		if b.stop == nil {
			continue
		}
		b.converged()
		want := 0
		if b.Primary() {
			want = 1
		}
		until(a.t, func() bool { return b.vault.labels() == want }, func() string {
			return fmt.Sprintf("%s has %d CA keys, want %d", b.cfg.Name, b.vault.labels(), want)
		})
		b.restart()
		b.converged()
	}
}
