package realm_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/tps/audit"
	"inkan/tps/realm"
)

// signedLog is an audit log that a realm signs.
func signedLog(t *testing.T, n *node) (string, *audit.File, *audit.Checkpoints) {
	t.Helper()
	dir := t.TempDir()
	l, err := audit.OpenFile(dir)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return dir, l, &audit.Checkpoints{Log: l, Sign: n.SignHead, Heads: n.db, Node: "n1", Logger: slog.New(slog.DiscardHandler)}
}

func (n *node) prove(t *testing.T, dir string) (audit.Proof, error) {
	t.Helper()
	keys, err := n.AuditKeys(t.Context())
	must(t, err)
	kept, err := n.db.AuditHead(t.Context(), "n1")
	must(t, err)
	return audit.Prove(dir, realm.CheckHead(keys), kept)
}

// TestCheckpoints: what is signed is proved over rotation and deletion of the keys that
// signed it, by a key that signs nothing else; a record without its end is found out.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	dir, l, c := signedLog(t, n)
	write := func(count int) {
		for range count {
			must(t, l.Record(ctx, audit.Event{Name: "TEST", Outcome: audit.Success}))
		}
	}
	must(t, c.Make(ctx)) // nothing to sign
	write(3)
	must(t, c.Make(ctx))
	must(t, c.Make(ctx)) // nothing new
	first, err := n.AuditKeys(ctx)
	must(t, err)
	if len(first) != 1 || first[0].Use != realm.ForAudit {
		t.Fatalf("audit keys %+v", first)
	}
	_, before, err := n.Rotate(ctx, realm.ForAudit, realm.ES256, "test")
	must(t, err)
	_, err = n.Delete(ctx, before.KID, "test")
	must(t, err)
	write(2)
	must(t, c.Make(ctx))
	write(1)
	p, err := n.prove(t, dir)
	if err != nil || p.Events != 8 || p.Checkpoints != 2 || p.Signed.Seq != 6 || p.Unsigned != 1 || len(p.KIDs) != 2 || len(p.Doubts) != 0 {
		t.Fatalf("%+v, %v", p, err)
	}

	path := filepath.Join(dir, audit.FileName)
	whole, err := os.ReadFile(path)
	must(t, err)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	rewrite := func(b []byte) error {
		must(t, os.WriteFile(path, b, 0o600))
		_, err := n.prove(t, dir)
		return err
	}
	for name, b := range map[string][]byte{
		"end cut off":   bytes.Join(lines[:5], nil),
		"empty":         {},
		"other content": bytes.Replace(whole, []byte("TEST"), []byte("REST"), 1),
	} {
		if err := rewrite(b); !errors.Is(err, audit.ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, rewrite(bytes.Join(lines[:7], nil))) // the last event was not signed: it is the chain's word

	must(t, os.WriteFile(path, whole, 0o600))
	keys, err := n.AuditKeys(ctx)
	must(t, err)
	if _, err := audit.Prove(dir, realm.CheckHead(keys[:1]), audit.Head{}); !errors.Is(err, audit.ErrTampered) || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("by an unknown key: %v", err)
	}
	forged := *c
	forged.Sign = func(ctx context.Context, h audit.Head) (string, error) {
		h.Seq--
		return n.SignHead(ctx, h)
	}
	must(t, forged.Make(ctx))
	if _, err := n.prove(t, dir); !errors.Is(err, audit.ErrTampered) || !strings.Contains(err.Error(), "another event") {
		t.Errorf("about another event: %v", err)
	}
}

// TestCheckpointDoubt: after a key was given up, what it alone signed is in doubt, until
// the next key has signed it as well.
func TestCheckpointDoubt(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	dir, l, c := signedLog(t, n)
	must(t, l.Record(ctx, audit.Event{Name: "TEST", Outcome: audit.Success}))
	must(t, c.Make(ctx))
	login := n.sign(t, realm.ES256)
	keys, err := n.AuditKeys(ctx)
	must(t, err)
	_, err = n.Compromised(ctx, keys[0].KID, "test")
	must(t, err)
	must(t, n.verify(t, login, realm.ES256)) // not a key for logins
	p, err := n.prove(t, dir)
	if err != nil || len(p.Doubts) != 1 || p.Signed.Seq != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	must(t, l.Record(ctx, audit.Event{Name: "TEST", Outcome: audit.Success}))
	must(t, c.Make(ctx))
	p, err = n.prove(t, dir)
	if err != nil || len(p.Doubts) != 1 || p.Signed.Seq != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	keys, err = n.AuditKeys(ctx)
	must(t, err)
	b, err := realm.EncodeAuditKeys(keys)
	must(t, err)
	read, err := realm.ParseAuditKeys(b)
	must(t, err)
	q, err := audit.Prove(dir, realm.CheckHead(read), audit.Head{})
	if err != nil || len(q.Doubts) != 1 || q.Signed != p.Signed || len(read) != 2 {
		t.Errorf("by exported keys: %+v, %v", q, err)
	}
}

// FuzzParseAuditKeys: what is read is an audit key under its own kid, and is written
// and read again as it was.
func FuzzParseAuditKeys(f *testing.F) {
	n := newNode(f)
	_, err := n.SignHead(f.Context(), audit.Head{Seq: 1})
	must(f, err)
	keys, err := n.AuditKeys(f.Context())
	must(f, err)
	b, err := realm.EncodeAuditKeys(keys)
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"keys":[{"kty":"OKP"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := realm.ParseAuditKeys(b)
		if err != nil {
			return
		}
		b, err = realm.EncodeAuditKeys(keys)
		must(t, err)
		again, err := realm.ParseAuditKeys(b)
		if err != nil || len(again) != len(keys) {
			t.Errorf("%d keys, then %d, %v", len(keys), len(again), err)
		}
	})
}

// FuzzCheckHead: no text but a checkpoint of ours is one.
func FuzzCheckHead(f *testing.F) {
	n := newNode(f)
	text, err := n.SignHead(f.Context(), audit.Head{Seq: 7, Hash: "AB"})
	must(f, err)
	keys, err := n.AuditKeys(f.Context())
	must(f, err)
	check := realm.CheckHead(keys)
	f.Add(text)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := check(text); err == nil && (s.Seq != 7 || s.Hash != "AB") {
			t.Errorf("%+v", s)
		}
	})
}
