package local_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/gp"
	"inkan/tks/local"
)

// copyOf reads all pages of a ledger.
func copyOf(t *testing.T, l *local.FileLedger) *local.Copy {
	t.Helper()
	var c local.Copy
	for at := int64(0); ; {
		page, err := l.Page(at)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return &c
		}
		if err := c.Add(page); err != nil {
			t.Fatal(err)
		}
		at += int64(len(page))
	}
}

// TestLedgerAdopts: a ledger takes from others what it does not know, keeps what it
// does, and has it after a restart; doing it again adds nothing.
func TestLedgerAdopts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "own")
	from, own := open(t, filepath.Join(t.TempDir(), "other")), open(t, path)
	for _, err := range []error{
		from.Grant(ctx, grant(1, site2)),
		from.Grant(ctx, grant(2, site2)), from.Complete(ctx, gp.KDD{2}, site2),
		from.Grant(ctx, grant(3, site2)), from.Release(ctx, gp.KDD{3}, "agent"),
		from.Grant(ctx, grant(4, site2)), from.Complete(ctx, gp.KDD{4}, site2),
		from.Grant(ctx, grant(5, site2)), from.Complete(ctx, gp.KDD{5}, site2),
		own.Grant(ctx, grant(4, site2)), // not known to be through
		own.Grant(ctx, grant(5, site3)), // another one
		own.Grant(ctx, grant(6, site2)), // unknown there
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{3, 0} {
		if n, err := own.Adopt(copyOf(t, from)); err != nil || n != want {
			t.Errorf("%d cards, %v, want %d", n, err, want)
		}
	}
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	for kdd, want := range map[byte]struct {
		to   local.Target
		done bool
	}{1: {site2, false}, 2: {site2, true}, 4: {site2, true}, 5: {site3, false}, 6: {site2, false}} {
		e, ok, err := again.Lookup(ctx, gp.KDD{kdd})
		if err != nil || !ok || e.To != want.to || e.Completed != want.done {
			t.Errorf("card %d: %+v, %v, %v", kdd, e, ok, err)
		}
	}
	if _, ok, _ := again.Lookup(ctx, gp.KDD{3}); ok {
		t.Error("a card that was released is not")
	}
}

// TestLedgerPages: pages are whole lines, and only of what is there.
func TestLedgerPages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	var text bytes.Buffer
	for text.Len() < 600<<10 {
		text.WriteString(`{"kind":"release","kdd":"00010203040506070809","time":"2026-11-22T00:00:00Z","by":"` + strings.Repeat("x", 900) + "\"}\n")
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	var all []byte
	pages := 0
	for {
		page, err := l.Page(int64(len(all)))
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		pages++
		all = append(all, page...)
	}
	if !bytes.Equal(all, text.Bytes()) || pages != 3 {
		t.Errorf("%d pages of %d bytes, the file has %d", pages, len(all), text.Len())
	}
	for _, at := range []int64{-1, int64(text.Len()) + 1} {
		if _, err := l.Page(at); err == nil {
			t.Errorf("there is something at %d", at)
		}
	}
	var c local.Copy
	if err := c.Add(text.Bytes()[:100]); err == nil {
		t.Error("half a line was taken")
	}
}

// FuzzCopy: pages come from another node.
func FuzzCopy(f *testing.F) {
	f.Add([]byte(`{"kind":"grant","kdd":"01000000000000000000","time":"2026-11-22T00:00:00Z","grant":{"kdd":"01000000000000000000","cuid":"494E4B4100000000004D",` +
		`"from":{"set":"factory","version":"FF"},"to":{"set":"site","version":"02"},"time":"2026-11-22T00:00:00Z"}}` + "\n"))
	f.Add([]byte(`{"kind":"complete","kdd":"01000000000000000000","time":"2026-11-22T00:00:00Z"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		var c local.Copy
		if c.Add(page) != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "ledger")
		l := open(t, path)
		if _, err := l.Adopt(&c); err != nil {
			return
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, path) // what was written can be read
	})
}
