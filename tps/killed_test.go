//go:build unix

package tps_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"inkan/apdu"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// The child is this test binary again, with these set.
const (
	killedDir    = "INKAN_TEST_KILLED_DIR" // the site and the card
	killedOp     = "INKAN_TEST_KILLED_OP"
	killedFamily = "INKAN_TEST_KILLED_FAMILY"
	killedAt     = "INKAN_TEST_KILLED_AT" // the write at which it dies, minus: before it persists
)

// TestKilled runs a server as a process of its own that is killed at every write
// of its store (journal entries, records, locks, what the authority stores),
// before or after that write persisted; then a new one is started on what is left
// and the same person asks for the same again.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, f := range []cutFamily{coolkeyCuts, pivCuts} {
		for _, c := range cutCases {
			if (f.name == "piv" || c.op == tps.OpRenew) && !everything() {
				continue // what is written differs in the keys of the applet alone; a renewal is the end of an enrollment
			}
			t.Run("operation="+c.name+"/family="+f.name, func(t *testing.T) {
				t.Parallel()
				k := &killer{cutCase: c, family: f, base: t.TempDir()}
				k.prepare(t)
				for n := 1; k.at(t, n); n++ {
				}
				fmt.Printf("kills operation=%s family=%s tried=%d converged=%d\n", c.name, f.name, k.tried, k.converged)
				if k.tried != k.converged || k.tried == 0 {
					t.Errorf("%d of %d kills converged", k.converged, k.tried)
				}
			})
		}
	}
}

// killer tries one operation; base is what every try begins with.
type killer struct {
	cutCase
	family           cutFamily
	base             string
	tried, converged int
}

// prepare makes a site, and a card in the condition that the case wants.
func (k *killer) prepare(t *testing.T) {
	x, card := k.open(t, k.base)
	for _, op := range k.given {
		_, err := x.run(op, card, func(c *client, r *tps.Request) { c.pins, r.TokenType = []string{"9518402"}, x.before })
		must(t, err)
	}
	must(t, card.Close())
	x.close()
}

// open opens the site and the card of a folder.
func (k *killer) open(t *testing.T, dir string) (*cutter, *sim.Card) {
	t.Helper()
	s := siteIn(t, dir)
	s.ca = &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	x := &cutter{site: s, family: k.family, cutCase: k.cutCase, model: "gp-scp03"}
	if k.family.name == "piv" {
		x.model, x.before = "yubikey-5.7", "before"
		if _, err := s.db.Profile(t.Context(), "before"); errors.Is(err, token.ErrNotFound) {
			s.put(pivProfile("before", nil))
			s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nmanagement = \"aes-128\"\n"}))
		}
	}
	card, err := sim.New(sim.Config{Model: x.model, Path: filepath.Join(dir, "card.img")})
	must(t, err)
	return x, card
}

// at kills at the n-th write, on one side of it or on both. False: there is no
// such write.
func (k *killer) at(t *testing.T, n int) bool {
	for side, at := range []int{-n, n} {
		if !everything() && side != n%2 {
			continue
		}
		dir := t.TempDir()
		copyFiles(t, dir, k.base)
		if !k.kill(t, dir, at) {
			return false
		}
		k.tried++
		if err := k.again(t, dir); err != nil {
			t.Errorf("killed at write %d: %v", at, err)
			continue
		}
		k.converged++
	}
	return true
}

// copyFiles copies a folder's files, for their owner only.
func copyFiles(t *testing.T, to, from string) {
	t.Helper()
	files, err := os.ReadDir(from)
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, f.Name()), b, 0o600))
	}
}

// kill runs the child. False: it ended by itself, the operation done.
func (k *killer) kill(t *testing.T, dir string, at int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir, killedFamily+"="+k.family.name, killedOp+"="+string(k.op), killedAt+"="+strconv.Itoa(at))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child at write %d: %v\n%s", at, err, out)
	}
	return true
}

// again starts another server on what the killed one left, and asks once more.
func (k *killer) again(t *testing.T, dir string) error {
	x, card := k.open(t, dir)
	defer x.close()
	defer card.Close()
	if err := x.ca.(*watchedCA).recall(t.Context(), filepath.Join(dir, "inkan.db"), card.Info().CUID); err != nil {
		return err
	}
	if _, err := x.run(x.op, card); err != nil {
		return err
	}
	return x.check(t, card)
}

// recall reads from the authority's own table what it has issued and revoked.
func (w *watchedCA) recall(ctx context.Context, path string, cuid apdu.CUID) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT serial, revoked_at <> '' FROM issued WHERE length(der) > 0")
	if err != nil {
		return err
	}
	defer rows.Close()
	w.gone = map[ca.Serial]bool{}
	for rows.Next() {
		var serial ca.Serial
		var revoked bool
		if err := rows.Scan(&serial, &revoked); err != nil {
			return err
		}
		if w.gone[serial] = revoked; !revoked {
			w.valid[serial] = cuid
		}
	}
	return rows.Err()
}

// TestKilledChild is the server that TestKilled kills.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		return
	}
	at, err := strconv.Atoi(os.Getenv(killedAt))
	must(t, err)
	k := &killer{cutCase: cutCase{op: tps.Operation(os.Getenv(killedOp))}, family: coolkeyCuts}
	if os.Getenv(killedFamily) == pivCuts.name {
		k.family = pivCuts
	}
	x, card := k.open(t, dir)
	f := &fatal{Records: x.db, at: at}
	x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}
	x.ca = openAuthority(t, dir, &fatalIssued{x.db.Authority("embedded"), f})
	_, err = x.run(k.op, card)
	must(t, err)
}

// fatal is a store one of whose writes is the last thing the process does.
type fatal struct {
	storetest.Records
	at, writes int
}

func dying[A any](f *fatal, write func() (A, error)) (A, error) {
	f.writes++
	if f.writes == -f.at {
		die()
	}
	a, err := write()
	if f.writes == f.at {
		die()
	}
	return a, err
}

func die() {
	err := syscall.Kill(os.Getpid(), syscall.SIGKILL)
	panic(err) // not reached
}

func dyingOnly(f *fatal, write func() error) error {
	_, err := dying(f, func() (struct{}, error) { return struct{}{}, write() })
	return err
}

func (f *fatal) CreateToken(ctx context.Context, t token.Token) (token.Token, error) {
	return dying(f, func() (token.Token, error) { return f.Records.CreateToken(ctx, t) })
}

func (f *fatal) ReplaceToken(ctx context.Context, t token.Token) (token.Token, error) {
	return dying(f, func() (token.Token, error) { return f.Records.ReplaceToken(ctx, t) })
}

func (f *fatal) CreateCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	return dying(f, func() (token.Certificate, error) { return f.Records.CreateCertificate(ctx, c) })
}

func (f *fatal) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	return dying(f, func() (token.Certificate, error) { return f.Records.ReplaceCertificate(ctx, c) })
}

func (f *fatal) BeginJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	return dying(f, func() (token.Journal, error) { return f.Records.BeginJournal(ctx, j) })
}

func (f *fatal) ReplaceJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	return dying(f, func() (token.Journal, error) { return f.Records.ReplaceJournal(ctx, j) })
}

func (f *fatal) AddActivity(ctx context.Context, a token.Activity) error {
	return dyingOnly(f, func() error { return f.Records.AddActivity(ctx, a) })
}

func (f *fatal) Lock(ctx context.Context, l token.Lock) error {
	return dyingOnly(f, func() error { return f.Records.Lock(ctx, l) })
}

func (f *fatal) Unlock(ctx context.Context, l token.Lock) error {
	return dyingOnly(f, func() error { return f.Records.Unlock(ctx, l) })
}

// fatalIssued is the same for what the authority stores.
type fatalIssued struct {
	ca.Store
	f *fatal
}

func (s *fatalIssued) CreateIssued(ctx context.Context, i ca.Issued) error {
	return dyingOnly(s.f, func() error { return s.Store.CreateIssued(ctx, i) })
}

func (s *fatalIssued) CompleteIssued(ctx context.Context, id string, der []byte) error {
	return dyingOnly(s.f, func() error { return s.Store.CompleteIssued(ctx, id, der) })
}

func (s *fatalIssued) SetRevocation(ctx context.Context, serial ca.Serial, r ca.Revocation) error {
	return dyingOnly(s.f, func() error { return s.Store.SetRevocation(ctx, serial, r) })
}

// TestDeadBoot: a killed server's lock does not keep the next one from the card.
func TestDeadBoot(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	cuid := cuidOf(t, card)
	must(t, s.db.Lock(t.Context(), token.Lock{CUID: cuid, Node: "node", Boot: "the one that was killed", Session: "s"}))
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	must(t, s.db.Lock(t.Context(), token.Lock{CUID: cuid, Node: "another node", Boot: "alive", Session: "s"}))
	_, err = s.run(tps.OpFormat, card)
	if !errors.Is(err, token.ErrLocked) {
		t.Errorf("another node has the card: %v", err)
	}
}
