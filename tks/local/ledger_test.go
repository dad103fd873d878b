package local_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks/local"
)

var (
	site2 = local.Target{KeySet: "site", Version: 2}
	site3 = local.Target{KeySet: "site", Version: 3}
)

func grant(kdd byte, to local.Target) local.Grant {
	return local.Grant{KDD: gp.KDD{kdd}, CUID: apdu.CUID{kdd}, From: local.Target{KeySet: "factory", Version: 0xFF}, To: to, Time: time.Unix(1_800_000_000, 0).UTC()}
}

func open(t testing.TB, path string) *local.FileLedger {
	t.Helper()
	l, err := local.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestLedgerRemembers: every state of a card, before and after the file was
// opened again.
func TestLedgerRemembers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tks", "ledger")
	l := open(t, path)
	ctx := t.Context()
	for _, err := range []error{
		l.Grant(ctx, grant(1, site2)),
		l.Grant(ctx, grant(2, site2)), l.Complete(ctx, gp.KDD{2}, site2),
		l.Grant(ctx, grant(3, site2)), l.Complete(ctx, gp.KDD{3}, site2), l.Release(ctx, gp.KDD{3}, "agent"),
		l.Grant(ctx, grant(4, site2)), l.Complete(ctx, gp.KDD{4}, site3), // not what was granted
		l.Complete(ctx, gp.KDD{9}, site2), // nothing granted
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for kdd, want := range map[byte][2]bool{1: {true, false}, 2: {false, false}, 3: {true, true}, 4: {true, false}, 5: {true, true}} {
			checkDecisions(t, path, kdd, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, path)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkDecisions asks on a copy of the ledger whether a card gets site2, site3.
func checkDecisions(t *testing.T, path string, kdd byte, want [2]bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []local.Target{site2, site3} {
		copied := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, copied)
		err := l.Grant(t.Context(), grant(kdd, to))
		if (err == nil) != want[i] || err != nil && !errors.Is(err, local.ErrGranted) {
			t.Errorf("card %d to %+v: %v, want granted=%v", kdd, to, err, want[i])
		}
		l.Close()
	}
}

func TestLedgerRelease(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	if err := l.Release(t.Context(), gp.KDD{1}, "agent"); !errors.Is(err, local.ErrNotGranted) {
		t.Errorf("%v, want ErrNotGranted", err)
	}
	if err := errors.Join(l.Grant(t.Context(), grant(1, site2)), l.Release(t.Context(), gp.KDD{1}, "agent smith")); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.Lookup(t.Context(), gp.KDD{1}); ok || err != nil {
		t.Errorf("released card is still there: %v, %v", ok, err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte("agent smith")) {
		t.Errorf("who released is not in the file: %s, %v", b, err)
	}
}

func TestLedgerLookup(t *testing.T) {
	t.Parallel()
	l := open(t, filepath.Join(t.TempDir(), "ledger"))
	g := grant(1, site2)
	if err := errors.Join(l.Grant(t.Context(), g), l.Complete(t.Context(), g.KDD, site2)); err != nil {
		t.Fatal(err)
	}
	e, ok, err := l.Lookup(t.Context(), g.KDD)
	if err != nil || !ok || !e.Completed || e.Grant != g {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
}

// TestLedgerTorn: whatever a power cut leaves of the last line, the ledger opens,
// knows all before it, and goes on.
func TestLedgerTorn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	if err := l.Grant(t.Context(), grant(1, site2)); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Grant(t.Context(), grant(2, site2)), l.Close()); err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(one); n < len(two); n++ {
		torn := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(torn, two[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, torn)
		if err := l.Grant(t.Context(), grant(1, site3)); !errors.Is(err, local.ErrGranted) {
			t.Fatalf("cut to %d: the first grant is forgotten: %v", n, err)
		}
		if err := errors.Join(l.Grant(t.Context(), grant(2, site3)), l.Close()); err != nil {
			t.Fatalf("cut to %d: %v", n, err)
		}
		l = open(t, torn)
		if err := l.Grant(t.Context(), grant(2, site2)); !errors.Is(err, local.ErrGranted) {
			t.Fatalf("cut to %d: what came after is lost: %v", n, err)
		}
		l.Close()
	}
}

func TestLedgerDamage(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]string{
		"text":            "hello\n",
		"kind":            `{"kind":"gift","kdd":"01000000000000000000","time":"2026-01-01T00:00:00Z"}` + "\n",
		"unknown field":   `{"kind":"release","kdd":"01000000000000000000","time":"2026-01-01T00:00:00Z","x":1}` + "\n",
		"grant of nobody": `{"kind":"grant","kdd":"01000000000000000000","time":"2026-01-01T00:00:00Z"}` + "\n",
		"complete":        `{"kind":"complete","kdd":"01000000000000000000","time":"2026-01-01T00:00:00Z"}` + "\n",
		"two on a line":   `{"kind":"release","kdd":"01000000000000000000","time":"2026-01-01T00:00:00Z"} {}` + "\n",
		"long":            `{"by":"` + strings.Repeat("x", 5000) + `"}` + "\n",
	} {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := local.OpenLedger(path); err == nil {
			l.Close()
			t.Errorf("%s was not noticed", name)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != b {
			t.Errorf("%s: the file was altered", name)
		}
	}
}

func TestLedgerClosedAndLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	if _, err := local.OpenLedger(path); err == nil {
		t.Error("opened twice")
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.Grant(t.Context(), grant(1, site2)); err == nil {
		t.Error("a closed ledger grants")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, path).Grant(ctx, grant(1, site2)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// FuzzLedgerSurvives: no file makes OpenLedger panic; what opens, opens again the same.
func FuzzLedgerSurvives(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ledger")
	l := open(f, path)
	if err := errors.Join(l.Grant(f.Context(), grant(1, site2)), l.Complete(f.Context(), gp.KDD{1}, site2), l.Release(f.Context(), gp.KDD{1}, "x"), l.Close()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := local.OpenLedger(path)
			if err != nil {
				return
			}
			l.Close()
		}
	})
}
