package peer_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inkan/tps/peer"
)

// seed is the state and the record of an array that has had a change of its CA.
func seed(t testing.TB) (s peer.State, record []byte) {
	t.Helper()
	dir := t.TempDir()
	n, err := peer.Open(t.Context(), peer.Config{Dir: dir, Key: keyFile(filepath.Join(dir, "peer.key")), CAKeys: &vault{}, Name: "tps1.example", Address: "127.0.0.1:8444",
		Roles: []peer.Role{peer.TPS}, Version: "1.2.3", Now: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	must(t, err)
	must(t, n.Init(t.Context(), "site", peer.InitOptions{Domains: []string{"elsewhere"}}))
	must(t, n.SetDocuments(map[string][]byte{"ca.pem": []byte("certificate")}))
	_, err = n.Invite("tks1.example", []peer.Role{peer.TKS}, time.Hour)
	must(t, err)
	s, _ = n.State()
	record, err = os.ReadFile(filepath.Join(n.Dir(), "array.json"))
	must(t, err)
	return s, record
}

// FuzzStateCanonical: what parses is in its canonical form, and has a hash.
func FuzzStateCanonical(f *testing.F) {
	s, _ := seed(f)
	b, err := peer.Canonical(s)
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := peer.ParseState(b)
		if err != nil {
			return
		}
		again, err := peer.Canonical(s)
		must(t, err)
		if !bytes.Equal(again, b) || s.Hash() == "" {
			t.Errorf("%s\nbecame\n%s", b, again)
		}
	})
}

// FuzzMessagesNoPanic: whatever another node sends is a message or an error.
func FuzzMessagesNoPanic(f *testing.F) {
	s, record := seed(f)
	add := func(v any) {
		b, err := json.Marshal(v)
		must(f, err)
		f.Add(b)
	}
	f.Add(record)
	docs := map[string][]byte{"ca.pem": []byte("certificate")}
	add(map[string]any{"state": s, "documents": docs})
	add(map[string]any{"certificate": s.CAs[0].Certificate, "array": map[string]any{"state": s, "documents": docs}})
	add(map[string]any{"invite": "ab", "name": "x.example", "address": "x:1", "roles": []string{"tps"}, "version": "1", "time": time.Time{}, "replace": false, "csr": []byte{0x30}})
	add(map[string]any{"array": s.ID, "name": "site", "node": "x.example", "primary": "x.example", "address": "x:1", "members": 1})
	add(peer.Report{Node: s.Primary, Epoch: 7})
	add(peer.Statement{Array: s.ID, Epoch: 7, Primary: s.Primary, Authority: s.CAs[0].Certificate, Certificate: s.CAs[0].Certificate})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = peer.DecodeRecord(b)
		_ = peer.ParseJoin(b)
		_ = peer.ParseAnswer(b)
		_ = peer.ParseEnvelope(b)
		_ = peer.Greet(b)
		if r, err := peer.ParseReport(b); err == nil && r.Epoch == 0 && r.Node != "" && r.Hash != "" {
			_, _ = peer.Canonical(r)
		}
		if p, err := peer.ParseStatement(b); err == nil {
			if recovered, _ := peer.VerifyStatement(p, s); recovered {
				t.Error("a statement without a signature was recovered")
			}
		}
	})
}

// FuzzFrame: a message on the join protocol is bounded and strict.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x10{\"body\":\"AAAA\"}"))
	f.Add([]byte("\xFF\xFF\xFF\xFF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := peer.ReadProved(b); err == nil && n > len(b) {
			t.Errorf("%d bytes of %d", n, len(b))
		}
	})
}

// TestDamage: every flipped bit of a node's record, and every cut, is noticed and
// named.
func TestDamage(t *testing.T) {
	t.Parallel()
	_, record := seed(t)
	must(t, peer.DecodeRecord(record))
	for i := range record {
		for _, bit := range []byte{0x01, 0x20, 0x80} {
			b := bytes.Clone(record)
			b[i] ^= bit
			if err := peer.DecodeRecord(b); err == nil {
				t.Fatalf("bit %#x of byte %d", bit, i)
			}
		}
		if err := peer.DecodeRecord(record[:i]); err == nil {
			t.Fatalf("cut at %d", i)
		}
	}
	b := newBox(t, "tps1.example", peer.TPS)
	must(t, b.Init(t.Context(), "site", peer.InitOptions{}))
	for _, name := range []string{"array.json", "peer.key"} {
		path := filepath.Join(b.cfg.Dir, name)
		good, err := os.ReadFile(path)
		must(t, err)
		for what, text := range map[string][]byte{"empty": {}, "garbage": []byte("\x00\xFFgarbage"), "cut": good[:len(good)/2]} {
			must(t, os.WriteFile(path, text, 0o600))
			_, err := peer.Open(t.Context(), b.cfg)
			refused(t, what+" "+name, err, peer.ErrDamaged)
		}
		must(t, os.Remove(path))
		if name == "peer.key" {
			_, err := peer.Open(t.Context(), b.cfg)
			refused(t, "missing "+name, err, peer.ErrDamaged)
		}
		must(t, os.WriteFile(path, good, 0o600))
	}
	b.open()
}
