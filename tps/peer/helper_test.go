package peer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tps/peer"
)

// patience is how long a test waits for what needs milliseconds.
const patience = time.Minute

// vault keeps CA keys in memory, as an HSM does beside a node that is restarted.
type vault struct {
	mu        sync.Mutex
	keys      map[string]crypto.Signer
	destroyed []string
}

func (v *vault) Generate(_ context.Context, label string) (crypto.Signer, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys[label] != nil {
		return nil, errors.New("label is taken")
	}
	if v.keys == nil {
		v.keys = map[string]crypto.Signer{}
	}
	v.keys[label] = k
	return k, nil
}

func (v *vault) Signer(_ context.Context, label string) (crypto.Signer, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.keys[label]; k != nil {
		return k, nil
	}
	return nil, errors.New("no such key")
}

func (v *vault) Destroy(_ context.Context, label string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys[label] != nil {
		v.destroyed = append(v.destroyed, label)
	}
	delete(v.keys, label)
	return nil
}

func (v *vault) labels() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}

// clock is the time of a test's nodes: the real one, set forward.
type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *clock) forward(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += by
}

// keyFile keeps a node's key in a file.
type keyFile string

func (k keyFile) Load(context.Context) (secret.Secret, error) {
	b, err := os.ReadFile(string(k))
	return secret.New(b), err
}

func (k keyFile) Save(_ context.Context, pem secret.Secret) error {
	return durable.ReplaceFile(string(k), pem.Bytes(), 0o600)
}

// box is a machine: a folder, an HSM, an address; and a node that runs on it or not.
type box struct {
	*peer.Node
	t     *testing.T
	cfg   peer.Config
	vault *vault
	clock *clock
	calls http.Handler // what it serves beside the array
	stop  func()

	asked atomic.Int64 // how often it has reported
	steps atomic.Int64 // how many more durable steps it makes before it is killed; 0: no end
	mu    sync.Mutex
	left  int // how often array secrets were removed
}

var errKilled = errors.New("killed by the test")

func (b *box) step(string) error {
	for {
		left := b.steps.Load()
		switch {
		case left == 0:
			return nil
		case left < 0:
			return errKilled
		case left == 1 && b.steps.CompareAndSwap(1, -1):
			return errKilled
		case left > 1 && b.steps.CompareAndSwap(left, left-1):
			return nil
		}
	}
}

// killAt has the node keep nothing from the n-th durable step on, counted from 1.
func (b *box) killAt(n int) { b.steps.Store(int64(n)) }

func (b *box) killed() bool { return b.steps.Load() == -1 }

// spare has the node live on, unless it was killed.
func (b *box) spare() (killed bool) { return b.steps.Swap(0) == -1 }

// revive is another process on what the killed one has left.
func (b *box) revive() {
	b.t.Helper()
	b.halt()
	b.steps.Store(0)
	b.open()
}

func (b *box) time() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock.now()
}

// follow has the machine go by another clock.
func (b *box) follow(c *clock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = c
}

// newBox is a machine whose node is not running.
func newBox(t *testing.T, name string, roles ...peer.Role) *box {
	t.Helper()
	b := &box{t: t, vault: &vault{}, clock: &clock{}}
	b.calls = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := b.Caller(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%s to %s", c.Name, name)
	})
	dir := filepath.Join(t.TempDir(), "peer")
	b.cfg = peer.Config{Dir: dir, Key: keyFile(filepath.Join(dir, "peer.key")), CAKeys: b.vault, Name: name, Address: freeAddress(t), Roles: roles,
		Version: "1.2.3", Now: b.time, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		Interval: 20 * time.Millisecond, ChangeWait: patience,
		Left: func(context.Context) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.left++
			return nil
		},
		Facts:   func(context.Context) peer.Facts { b.asked.Add(1); return peer.Facts{SigningKID: "kid of " + name} },
		Resolve: func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
	}
	peer.SetStep(&b.cfg, b.step)
	b.open()
	t.Cleanup(b.halt)
	return b
}

// ports counts the ports that were given to nodes of this process.
var ports atomic.Uint32

func init() { ports.Store(uint32(os.Getpid()) * 61) }

// freeAddress is below the ports that the system gives to connections, and no other
// node's of this process: a node that is restarted finds its own free.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+ports.Add(1)%8000)
		if l, err := net.Listen("tcp", address); err == nil {
			must(t, l.Close())
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// open reads the folder as a started process does.
func (b *box) open() {
	b.t.Helper()
	n, err := peer.Open(b.t.Context(), b.cfg)
	must(b.t, err)
	b.Node = n
}

// run has the node serve and do its housekeeping.
func (b *box) run() *box {
	b.t.Helper()
	l, err := net.Listen("tcp", b.cfg.Address)
	must(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	n := b.Node
	wg.Go(func() {
		if err := n.Serve(ctx, l, b.calls); err != nil {
			b.t.Error(err)
		}
	})
	wg.Go(func() { n.Run(ctx) })
	b.stop = func() { cancel(); wg.Wait() }
	return b
}

// halt ends the node; the folder and the HSM stay.
func (b *box) halt() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

// restart is another process on the same folder.
func (b *box) restart() {
	b.t.Helper()
	b.halt()
	b.open()
	b.run()
}

// primaryBox is a running array of one.
func primaryBox(t *testing.T, name string, roles ...peer.Role) *box {
	t.Helper()
	b := newBox(t, name, roles...)
	must(t, b.Init(t.Context(), "site", peer.InitOptions{}))
	return b.run()
}

// join has a new node join, and waits until it is active.
func (b *box) join(name string, roles ...peer.Role) *box {
	b.t.Helper()
	x := newBox(b.t, name, roles...)
	x.clock = b.clock
	must(b.t, x.ask(b, peer.JoinOptions{}))
	x.run()
	b.converged()
	return x
}

// ask gets an invite from b and joins with it.
func (b *box) ask(of *box, o peer.JoinOptions) error {
	b.t.Helper()
	code, err := of.Invite(b.cfg.Name, b.cfg.Roles, 0)
	must(b.t, err)
	o.Primary, o.Code = of.cfg.Address, code
	if o.Confirm == nil {
		o.Fingerprint = of.CAs()[0].Fingerprint
	}
	return b.Join(b.t.Context(), o)
}

// converged waits until the array is.
func (b *box) converged() peer.Status {
	b.t.Helper()
	var st peer.Status
	until(b.t, func() bool {
		var err error
		st, err = b.Status(b.t.Context())
		return err == nil && st.Word == peer.Converged
	}, func() string { return fmt.Sprintf("%s: %s", st.Word, st.Why) })
	return st
}

// until waits for a state.
func until(t *testing.T, done func() bool, why func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not reached: %s", why())
		}
	}
}

// get calls an address of a member.
func (b *box) get(to *box, path string) (string, error) {
	m, err := b.member(to)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, m.URL()+path, nil)
	if err != nil {
		return "", err
	}
	res, err := b.Client(m.Node).Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return string(text), err
}

func (b *box) member(of *box) (peer.Member, error) {
	s, _ := b.State()
	for _, m := range s.Members {
		if m.Name == of.cfg.Name {
			return m, nil
		}
	}
	return peer.Member{}, fmt.Errorf("%s is no member", of.cfg.Name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func same[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
