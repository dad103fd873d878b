package realm_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
)

// named gives a node its name.
func named(name string) func(*realm.Config) {
	return func(c *realm.Config) { c.Node = name }
}

// runs lets a node look after itself until the test ends.
func runs(t *testing.T, r *realm.Realm) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
}

// await waits for the nodes to be in a state.
func (n *node) await(t *testing.T, what string, good func([]realm.NodeStatus) bool) {
	t.Helper()
	var last []realm.NodeStatus
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var err error
		last, err = n.Nodes(t.Context())
		must(t, err)
		if good(last) {
			return
		}
	}
	t.Fatalf("%s did not happen: %+v", what, last)
}

func signsWith(kids ...string) func([]realm.NodeStatus) bool {
	return func(all []realm.NodeStatus) bool {
		if len(all) != len(kids) {
			return false
		}
		for i, s := range all {
			if s.State != realm.Converged || s.Signing["sig ES256"] != kids[i] {
				return false
			}
		}
		return true
	}
}

// TestNodesConverge: each node records what it signs with, after a notice, or when it
// looks by itself.
func TestNodesConverge(t *testing.T) {
	t.Parallel()
	n := newNode(t, named("a"))
	notice := make(chan struct{})
	told := n.another(t, named("b"), func(c *realm.Config) { c.Changes = func(context.Context) <-chan struct{} { return notice } })
	polls := n.another(t, named("c"))
	told.SetLook(time.Hour)
	polls.SetLook(10 * time.Millisecond)
	for _, r := range []*realm.Realm{n.Realm, told, polls} {
		runs(t, r)
	}
	first := n.only(t, realm.Active).KID
	n.await(t, "the beginning", signsWith(first, first, first))
	made, _, err := n.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test")
	must(t, err)
	n.await(t, "convergence of who looks", func(all []realm.NodeStatus) bool {
		return all[0].State == realm.Converged && all[1].State == realm.Converging && all[2].State == realm.Converged
	})
	notice <- struct{}{}
	n.await(t, "convergence", signsWith(made.KID, made.KID, made.KID))
	n.clock.add(4 * time.Minute)
	polled := func(all []realm.NodeStatus) bool {
		return all[1].State == realm.Silent && all[2].State == realm.Converged
	}
	n.await(t, "silence", polled)
	must(t, n.ForgetNode(t.Context(), "b"))
	n.await(t, "a node less", func(all []realm.NodeStatus) bool { return len(all) == 2 })
	n.vault.Lose(made.Material)
	n.clock.add(time.Minute)
	n.await(t, "the loss of the key", func(all []realm.NodeStatus) bool { return all[1].State == realm.Failing && all[1].Problem != "" })
}

// TestNodesWithOwnKeys: nodes that reach no common vault sign with keys of their own,
// which all of them verify; each makes its own successors and destroys its own keys.
func TestNodesWithOwnKeys(t *testing.T) {
	t.Parallel()
	own := func(c *realm.Config) { c.Own = true }
	a := newNode(t, named("a"), own)
	b := &node{db: a.db, vault: &realmtest.Vault{}, audit: a.audit, clock: a.clock}
	b.Realm = b.another(t, named("b"), own)
	must(t, b.Prepare(t.Context()))
	must(t, b.Prepare(t.Context()))
	fromA, fromB := a.sign(t, realm.ES256), b.sign(t, realm.ES256)
	if a.vault.Size() != 1 || b.vault.Size() != 1 || kidOf(t, fromA) == kidOf(t, fromB) {
		t.Fatalf("%d and %d keys", a.vault.Size(), b.vault.Size())
	}
	must(t, a.verify(t, fromB, realm.ES256))
	must(t, b.verify(t, fromA, realm.ES256))
	a.clock.add(90*day + time.Minute)
	for range 2 {
		must(t, a.Tend(t.Context()))
		must(t, b.Tend(t.Context()))
	}
	a.clock.add(day)
	must(t, a.Tend(t.Context()))
	must(t, b.Tend(t.Context()))
	if a.vault.Size() != 2 || b.vault.Size() != 2 {
		t.Errorf("after a rotation %d and %d keys", a.vault.Size(), b.vault.Size())
	}
	fromB = b.sign(t, realm.ES256)
	out, err := a.Compromised(t.Context(), kidOf(t, fromB), "test")
	must(t, err)
	if out.Gone.Material == "" || b.vault.Size() != 2 {
		t.Error("another node's private half was destroyed from here")
	}
	refused(t, "by the key that was given up", a.verify(t, fromB, realm.ES256), realm.ErrToken)
	_, err = b.Sign(t.Context(), realm.Type{Name: "x", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, time.Minute, &realm.Claims{})
	refused(t, "signing with it", err, realm.ErrNoKey)
	runs(t, b.Realm)
	b.await(t, "a new key of its own", func(all []realm.NodeStatus) bool {
		return len(all) == 1 && all[0].State == realm.Converged && all[0].Signing["sig ES256"] != ""
	})
	must(t, a.verify(t, b.sign(t, realm.ES256), realm.ES256))
	if k, err := a.Find(t.Context(), string(out.Gone.ID)); err != nil || k.Material != "" {
		t.Errorf("its node did not destroy it: %+v, %v", k, err)
	}
}

// TestNodesAtOnce: of nodes that do the same at once one does it: the first key, a
// rotation, a compromise, the first signature of another use.
func TestNodesAtOnce(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
	must(t, err)
	defer db.Close()
	n := &node{db: db, vault: &realmtest.Vault{}, audit: &events{}, clock: &clock{t: time.Now()}}
	n.Realm = n.another(t)
	at := func(do func(*realm.Realm) error, allowed error) {
		t.Helper()
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			r := n.another(t, named(name))
			all.Go(func() {
				if err := do(r); err != nil && (allowed == nil || !errors.Is(err, allowed)) {
					t.Errorf("node %s: %v", name, err)
				}
			})
		}
		all.Wait()
	}
	ctx := t.Context()
	at(func(r *realm.Realm) error { return r.Prepare(ctx) }, nil)
	n.has(t, 1)
	at(func(r *realm.Realm) error { _, err := r.SignHead(ctx, auditHead); return err }, nil)
	n.has(t, 2)
	first := n.signing(t)
	at(func(r *realm.Realm) error { _, err := r.Compromised(ctx, first.KID, "test"); return err }, nil)
	n.has(t, 2) // one was destroyed
	second := n.signing(t)
	if second.Priority != first.Priority+1 {
		t.Errorf("made %+v", second)
	}
}

func (n *node) signing(t *testing.T) realm.Key {
	t.Helper()
	k, err := n.Find(t.Context(), kidOf(t, n.sign(t, realm.ES256)))
	must(t, err)
	return k
}

// has checks how many private halves there are, and that each has its record.
func (n *node) has(t *testing.T, want int) {
	t.Helper()
	keys, err := n.Keys(t.Context())
	must(t, err)
	known := 0
	for _, k := range keys {
		if k.Material == "" {
			continue
		}
		known++
		_, err := n.vault.Signer(t.Context(), k.Material)
		must(t, err)
	}
	left, err := n.db.Makings(t.Context())
	must(t, err)
	if known != want || n.vault.Size() != want || len(left) != 0 {
		t.Errorf("%d keys with a private half, %d in the vault, %d unfinished; want %d", known, n.vault.Size(), len(left), want)
	}
}

// TestSweep: a private half without a record is destroyed by its node at the start, by
// another one after an hour, and never while somebody may still be at it.
func TestSweep(t *testing.T) {
	t.Parallel()
	n := newNode(t, named("a"))
	ctx := t.Context()
	begin := func(name, node string) {
		must(t, n.db.BeginKey(ctx, realm.Making{Material: name, Node: node, Started: n.clock.now()}))
		_, err := n.vault.Generate(ctx, name, "ec-p256")
		must(t, err)
	}
	begin("mine", "a")
	must(t, n.Tend(ctx))
	if n.vault.Size() != 2 {
		t.Error("swept while it may be in the making")
	}
	begin("theirs", "b")
	must(t, n.Prepare(ctx))
	if n.vault.Size() != 2 {
		t.Errorf("%d keys after the start", n.vault.Size())
	}
	n.clock.add(time.Hour + time.Second)
	must(t, n.Tend(ctx))
	n.has(t, 1)
}

// TestDeleteWhileTended: deleting a key, and looking after the keys meanwhile, do not get
// into each other's way.
func TestDeleteWhileTended(t *testing.T) {
	t.Parallel()
	n := newNode(t, named("a"))
	n.SetLook(time.Millisecond)
	other := n.another(t, named("b"))
	other.SetLook(time.Millisecond)
	runs(t, n.Realm)
	runs(t, other)
	for range 30 {
		_, before, err := n.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test")
		must(t, err)
		if _, err := n.Delete(t.Context(), before.KID, "test"); err != nil {
			t.Fatal(err)
		}
	}
	n.has(t, 1)
}
