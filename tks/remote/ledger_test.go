package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/local"
	"inkan/tks/remote"
	"inkan/tks/tkstest"
)

// keepers are nodes that keep a ledger together. Those that are down answer nobody.
type keepers struct {
	own    []*local.FileLedger
	shared []*remote.Ledger

	nodes []remote.Node

	mu   sync.Mutex
	down []bool
}

// others are all nodes but the first.
func (k *keepers) others() []remote.Node { return k.nodes[1:] }

func newKeepers(t *testing.T, n int) *keepers {
	t.Helper()
	k := &keepers{down: make([]bool, n)}
	var nodes []remote.Node
	for i := range n {
		k.own = append(k.own, newLedger(t))
		h := newHandler(t, remote.HandlerConfig{
			Service: &stub{}, Ledger: k.own[i], Pages: k.own[i].Page, Identify: always("tks", remote.Grant{Methods: []remote.Method{remote.MethodLedger}, KeySets: everything().KeySets}),
		})
		node := direct(fmt.Sprintf("tks%d", i+1), h)
		well := node.Client.Transport.(inProcess)
		node.Client.Transport = inProcess(func(r *http.Request) (*http.Response, error) {
			k.mu.Lock()
			down := k.down[i]
			k.mu.Unlock()
			if down {
				return refuses(r)
			}
			return well(r)
		})
		nodes = append(nodes, node)
	}
	k.nodes = nodes
	for i := range n {
		others := slices.Delete(slices.Clone(nodes), i, i+1)
		k.shared = append(k.shared, newClient(t, remote.Config{}, others...).Ledger(k.own[i], remote.Majority))
		t.Cleanup(func() { k.shared[i].Close() })
	}
	return k
}

// set makes the nodes of which is true be down.
func (k *keepers) set(down ...bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

func (k *keepers) close(t *testing.T) {
	t.Helper()
	for _, l := range k.shared {
		must(t, l.Close())
	}
}

// anyway is the first node, where those that answer are enough.
func (k *keepers) anyway(t *testing.T) *remote.Ledger {
	return newClient(t, remote.Config{Nodes: k.others}).Ledger(k.own[0], remote.Answering)
}

func grantOf(card byte, to gp.KeyVersion) local.Grant {
	return local.Grant{
		KDD: gp.KDD{card}, From: local.Target{KeySet: tks.Factory, Version: 0xFF}, To: local.Target{KeySet: "site", Version: to}, Time: time.Unix(1_800_000_000, 0).UTC(),
	}
}

// TestLedgerTogether: a card is keyed once by all nodes, whichever is asked; the same
// changeover is the same grant at each, until the card has proved its new keys.
func TestLedgerTogether(t *testing.T) {
	t.Parallel()
	k := newKeepers(t, 3)
	ctx := t.Context()
	for _, l := range k.shared {
		must(t, l.Grant(ctx, grantOf(1, 2)))
	}
	for _, l := range k.shared {
		if err := l.Grant(ctx, grantOf(1, 3)); !errors.Is(err, local.ErrGranted) {
			t.Errorf("another changeover: %v", err)
		}
	}
	must(t, k.shared[1].Complete(ctx, gp.KDD{1}, grantOf(1, 2).To))
	k.close(t)
	for i, l := range k.own {
		if e, ok, err := l.Lookup(ctx, gp.KDD{1}); err != nil || !ok || !e.Completed {
			t.Errorf("node %d knows %+v, %v", i, e, err)
		}
	}
	for _, l := range k.shared {
		if err := l.Grant(ctx, grantOf(1, 2)); !errors.Is(err, local.ErrGranted) {
			t.Errorf("after the card has its keys: %v", err)
		}
	}
	must(t, k.shared[2].Release(ctx, gp.KDD{1}, "agent"))
	if err := k.shared[0].Release(ctx, gp.KDD{1}, "agent"); !errors.Is(err, local.ErrNotGranted) {
		t.Errorf("released twice: %v", err)
	}
	must(t, k.shared[0].Grant(ctx, grantOf(1, 3)))
	if e, ok, err := k.shared[1].Lookup(ctx, gp.KDD{1}); err != nil || !ok || e.To.Version != 3 || e.Completed {
		t.Errorf("after the release: %+v %v %v", e, ok, err)
	}
}

// TestLedgerLost: while nodes are lost more than half have to write a grant down, and
// no two grants for one card come about, whichever are lost when.
func TestLedgerLost(t *testing.T) {
	t.Parallel()
	k := newKeepers(t, 3)
	ctx := t.Context()
	k.set(false, false, true)
	must(t, k.shared[0].Grant(ctx, grantOf(1, 2))) // at 0 and 1
	must(t, k.shared[0].Complete(ctx, gp.KDD{1}, grantOf(1, 2).To))
	k.close(t)
	for _, down := range [][]bool{{true, false, false}, {false, true, false}, {false, false, false}} {
		k.set(down...)
		for _, to := range []gp.KeyVersion{2, 3} {
			if err := k.shared[2].Grant(ctx, grantOf(1, to)); !errors.Is(err, local.ErrGranted) {
				t.Errorf("at the node that was lost, with %v down: %v", down, err)
			}
		}
	}
	k.set(true, false, true)
	err := k.shared[1].Grant(ctx, grantOf(7, 2))
	if !errors.Is(err, tks.ErrUnavailable) || !strings.Contains(err.Error(), "1 of 3 nodes") || !strings.Contains(err.Error(), "tks1") || !strings.Contains(err.Error(), "tks3") {
		t.Errorf("alone: %v", err)
	}
	k.set(false, false, false)
	must(t, k.shared[1].Grant(ctx, grantOf(7, 2)))

	two := newKeepers(t, 2)
	two.set(false, true)
	if err := two.shared[0].Grant(ctx, grantOf(1, 2)); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("one of two: %v", err)
	}
	must(t, two.anyway(t).Grant(ctx, grantOf(9, 2)))
	if err := two.anyway(t).Grant(ctx, grantOf(9, 3)); !errors.Is(err, local.ErrGranted) {
		t.Errorf("twice where one is enough: %v", err)
	}
	two.set(false, false)
	if err := two.shared[1].Grant(ctx, grantOf(9, 3)); !errors.Is(err, local.ErrGranted) {
		t.Errorf("at the node that was lost: %v", err)
	}
	must(t, two.shared[0].Grant(ctx, grantOf(1, 2)))
	must(t, newKeepers(t, 1).shared[0].Grant(ctx, grantOf(1, 2)))
}

// TestLedgerToldLater: a completion that a node missed reaches it with the card's
// next session, and is not told again once all know.
func TestLedgerToldLater(t *testing.T) {
	t.Parallel()
	k := newKeepers(t, 2)
	ctx := t.Context()
	must(t, k.shared[0].Grant(ctx, grantOf(1, 2)))
	k.set(false, true)
	must(t, k.shared[0].Complete(ctx, gp.KDD{1}, grantOf(1, 2).To))
	k.close(t)
	k.set(false, false)
	if e, _, err := k.own[1].Lookup(ctx, gp.KDD{1}); err != nil || e.Completed {
		t.Errorf("%+v, %v", e, err)
	}
	must(t, k.shared[0].Complete(ctx, gp.KDD{1}, grantOf(1, 2).To))
	k.close(t)
	if e, _, err := k.own[1].Lookup(ctx, gp.KDD{1}); err != nil || !e.Completed {
		t.Errorf("%+v, %v", e, err)
	}
	must(t, k.own[1].Release(ctx, gp.KDD{1}, "agent"))
	must(t, k.own[1].Grant(ctx, grantOf(1, 2)))
	must(t, k.shared[0].Complete(ctx, gp.KDD{1}, grantOf(1, 2).To))
	k.close(t)
	if e, _, _ := k.own[1].Lookup(ctx, gp.KDD{1}); e.Completed {
		t.Error("told again what all knew")
	}
}

// TestLedgerReleaseLost: a release that a node missed is said, and made up for.
func TestLedgerReleaseLost(t *testing.T) {
	t.Parallel()
	k := newKeepers(t, 3)
	ctx := t.Context()
	must(t, k.shared[0].Grant(ctx, grantOf(1, 2)))
	k.set(false, false, true)
	err := k.shared[0].Release(ctx, gp.KDD{1}, "agent")
	if !errors.Is(err, tks.ErrUnavailable) || !strings.Contains(err.Error(), "tks3") || !strings.Contains(err.Error(), "release it again") {
		t.Errorf("%v", err)
	}
	k.set(false, false, false)
	if err := k.shared[0].Grant(ctx, grantOf(1, 3)); !errors.Is(err, local.ErrGranted) {
		t.Errorf("one node does not know of the release: %v", err)
	}
	must(t, k.shared[0].Release(ctx, gp.KDD{1}, "agent"))
	must(t, k.shared[2].Grant(ctx, grantOf(1, 3)))
	if _, body := call(t, newHandler(t, remote.HandlerConfig{Service: &stub{}, Ledger: newLedger(t), Identify: always("tks1", everything())}),
		"ledger/release", `{"kdd":"00010203040506070809","by":" "}`); body["error"] != "ErrRequest" {
		t.Errorf("released by nobody: %v", body)
	}
}

// TestLedgerRecorded: grants and releases that come from other nodes are in the
// record of this one.
func TestLedgerRecorded(t *testing.T) {
	t.Parallel()
	var events []remote.Event
	h := newHandler(t, remote.HandlerConfig{
		Service: &stub{}, Ledger: newLedger(t), Identify: always("tks1", everything()),
		Audit: func(_ context.Context, e remote.Event) error { events = append(events, e); return nil },
	})
	l := newClient(t, remote.Config{}, direct("tks2", h)).Ledger(newLedger(t), remote.Majority)
	must(t, l.Grant(t.Context(), grantOf(1, 2)))
	must(t, l.Release(t.Context(), gp.KDD{1}, "agent"))
	if len(events) != 2 || events[0].Call != "ledger/grant" || events[1].Call != "ledger/release" || events[1].KDD != (gp.KDD{1}) || events[0].Peer != "tks1" {
		t.Errorf("recorded %+v", events)
	}
	silent := direct("tks2", newHandler(t, remote.HandlerConfig{Service: &stub{}, Identify: always("tks1", everything())}))
	if err := newClient(t, remote.Config{}, silent).Ledger(newLedger(t), remote.Majority).Grant(t.Context(), grantOf(1, 2)); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("a node without a ledger for others: %v", err)
	}
}

// alternating asks one service after the other.
type alternating struct {
	all []tks.Service
	n   *atomic.Int64
}

func (a alternating) next() tks.Service { return a.all[int(a.n.Add(1))%len(a.all)] }

func (a alternating) Random(ctx context.Context, n int) ([]byte, error) {
	return a.next().Random(ctx, n)
}

func (a alternating) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	return a.next().DeriveSession(ctx, r)
}

func (a alternating) WrapKeySet(ctx context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	return a.next().WrapKeySet(ctx, r)
}

func (a alternating) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	return a.next().Encrypt(ctx, r)
}

func (a alternating) CardSecret(ctx context.Context, r tks.SecretRequest) (tks.SecretReply, error) {
	return a.next().CardSecret(ctx, r)
}

// TestServiceOverThree: three nodes with one vault and a ledger together are one key
// service: each call goes to another one.
func TestServiceOverThree(t *testing.T) {
	t.Parallel()
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture {
		k, v, r := newKeepers(t, 3), newStore(t), &tkstest.Retirements{}
		all := alternating{n: &atomic.Int64{}}
		var first *local.Service
		for i, l := range k.shared {
			s := newLocal(t, v, local.Config{Ledger: l, KeySets: r})
			if first == nil {
				first = s
				for _, k := range tkstest.Versions() {
					_, err := s.CreateKeySet(t.Context(), k.Set, k.Version, k.Type)
					must(t, err)
				}
			}
			node := direct(fmt.Sprintf("tks%d", i+1), newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())}))
			all.all = append(all.all, newClient(t, remote.Config{}, node))
		}
		return tkstest.Fixture{
			Service: all,
			Release: func(ctx context.Context, kdd gp.KDD) error { return first.Release(ctx, kdd, "agent") },
			Retire: func(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) error {
				return first.Retire(ctx, set, v, "admin")
			},
		}
	})
}

// TestLedgerNew: a node that is new knows every card that the others have keyed, though
// one of them missed it; where less than half of them answer it has to wait.
func TestLedgerNew(t *testing.T) {
	t.Parallel()
	k := newKeepers(t, 4)
	ctx := t.Context()
	k.set(true, false, false, false) // the new one
	must(t, k.shared[1].Grant(ctx, grantOf(1, 2)))
	must(t, k.shared[1].Complete(ctx, gp.KDD{1}, local.Target{KeySet: "site", Version: 2}))
	must(t, k.shared[2].Grant(ctx, grantOf(2, 2)))
	k.close(t)
	must(t, k.own[3].Grant(ctx, grantOf(3, 2)))
	c := newClient(t, remote.Config{Nodes: k.others})
	k.set(false, true, true, false)
	if _, err := c.CopyLedger(ctx, k.own[0].Adopt); !errors.Is(err, tks.ErrUnavailable) || !strings.Contains(err.Error(), "1 of 3") {
		t.Errorf("one of three: %v", err)
	}
	k.set(false, true, false, false)
	if _, err := c.CopyLedger(ctx, k.own[0].Adopt); err != nil {
		t.Errorf("two of three: %v", err)
	}
	for card := byte(1); card <= 3; card++ {
		if err := k.own[0].Grant(ctx, grantOf(card, 3)); !errors.Is(err, local.ErrGranted) {
			t.Errorf("card %d: %v", card, err)
		}
	}
	k.set(false, false, false, false)
	if n, err := c.CopyLedger(ctx, k.own[0].Adopt); err != nil || n != 0 {
		t.Errorf("once more: %d cards, %v", n, err)
	}
}
