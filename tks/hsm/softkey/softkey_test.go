package softkey_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/softkey"
	"inkan/tks/kdf"
)

func pass(s string) secret.Secret { return secret.New([]byte(s)) }

var floor = softkey.FloorParams()

func create(t testing.TB, path string) *softkey.Store {
	t.Helper()
	s, err := softkey.Create(path, pass("correct horse"), &floor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filled is a key file with one master key and one signer, closed.
func filled(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys", "keystore")
	s := create(t, path)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func fill(t testing.TB, s *softkey.Store) {
	t.Helper()
	if _, err := s.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GenerateSigner(t.Context(), hsm.CALabel("inkan", 1), hsm.P256); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keystore")
	if err := create(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	hsmtest.TestVault(t, func(t *testing.T) hsmtest.Token {
		s, err := softkey.Open(path, pass("correct horse"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestWrongPassphrase(t *testing.T) {
	t.Parallel()
	path := filled(t)
	before := read(t, path)
	for _, p := range []string{"", "wrong", "correct horse ", "Correct horse"} {
		_, err := softkey.Open(path, pass(p))
		if !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("passphrase %q: %v, want ErrPIN", p, err)
		}
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("a wrong passphrase altered the file")
	}
	if _, err := softkey.Create(filepath.Join(t.TempDir(), "k"), secret.Secret{}, &floor); err == nil {
		t.Error("created with an empty passphrase")
	}
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filled(t)
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		st, err := os.Stat(p)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v", p, st.Mode(), err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := softkey.Open(path, pass("correct horse")); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestOneProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keystore")
	s := create(t, path)
	if _, err := softkey.Open(path, pass("correct horse")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := softkey.Open(path, pass("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestCreateNeverOverwrites(t *testing.T) {
	t.Parallel()
	path := filled(t)
	before := read(t, path)
	if _, err := softkey.Create(path, pass("new"), &floor); err == nil {
		t.Error("created over a key file")
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the old file was altered")
	}
	_, err := softkey.Open(filepath.Join(t.TempDir(), "none"), pass("x"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	for _, p := range []softkey.Params{{}, {Time: 1, MemoryKiB: 1 << 20, Threads: 1}, {Time: 2, MemoryKiB: 1024, Threads: 1}, {Time: 1000, MemoryKiB: 1 << 20, Threads: 1}} {
		if _, err := softkey.Create(filepath.Join(t.TempDir(), "k"), pass("x"), &p); err == nil {
			t.Errorf("created with %+v", p)
		}
	}
	// A header that asks for too little, or for all memory there is, is refused unread.
	path := filled(t)
	for _, memory := range []string{"1", "4294967295"} {
		b := bytes.Replace(read(t, path), []byte(`"m_kib":19456`), []byte(`"m_kib":`+memory), 1)
		if _, err := softkey.Open(write(t, b), pass("correct horse")); err == nil || errors.Is(err, hsm.ErrPIN) {
			t.Errorf("m_kib=%s: %v", memory, err)
		}
	}
}

// TestDamage: every byte changed, every line dropped, doubled or swapped, every
// truncation is noticed, and as damage or a wrong passphrase, never as a key.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := read(t, filled(t))
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	cases := map[string][]byte{"empty": {}, "only a newline": []byte("\n"), "text": []byte("hello\n")}
	for i := range lines {
		cases[fmt.Sprintf("line %d dropped", i)] = bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
		cases[fmt.Sprintf("line %d doubled", i)] = bytes.Join(append(append([][]byte{}, lines[:i+1]...), lines[i:]...), nil)
		for _, at := range []int{2, len(lines[i]) / 2, len(lines[i]) - 6} {
			b := bytes.Clone(whole)
			off := len(bytes.Join(lines[:i], nil)) + at
			b[off] ^= 1
			cases[fmt.Sprintf("line %d byte %d", i, at)] = b
		}
	}
	cases["records swapped"] = bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3]}, nil)
	for _, n := range []int{1, 10, len(whole) / 2, len(whole) - 1} {
		cases[fmt.Sprintf("cut to %d", n)] = whole[:n]
	}
	for name, b := range cases {
		s, err := softkey.Open(write(t, b), pass("correct horse"))
		if err == nil {
			if name != fmt.Sprintf("cut to %d", len(whole)-1) { // the last newline carries nothing
				t.Errorf("%s was not noticed", name)
			}
			s.Close()
		}
	}
}

// TestNoKeyInTheClear: neither file nor description shows a key.
func TestNoKeyInTheClear(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keystore")
	s := create(t, path)
	fill(t, s)
	if got := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(got, "correct horse") {
		t.Error("the store prints its passphrase")
	}
	masters, err := s.Masters(t.Context())
	if err != nil || len(masters) != 1 {
		t.Fatal(err)
	}
	// The value, learnt through its derivation of itself, is nowhere in the file.
	w, err := s.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	same, err := w.Derive(t.Context(), masters[0], kdf.Derivation{Method: kdf.Same, Cipher: kdf.AES, Length: 16})
	if err != nil {
		t.Fatal(err)
	}
	known := make([]byte, 16)
	kek, err := w.Import(t.Context(), hsm.AES128, secret.New(bytes.Clone(known)))
	if err != nil {
		t.Fatal(err)
	}
	ct, err := w.Wrap(t.Context(), kek, same)
	if err != nil {
		t.Fatal(err)
	}
	b, err := kdf.NewBlock(kdf.AES, known)
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 16)
	b.Decrypt(value, ct)
	if kcv, _ := kdf.KCV(kdf.AES, value); kcv != masters[0].KCV {
		t.Fatal("the test did not learn the key")
	}
	if bytes.Contains(read(t, path), value) {
		t.Error("the key stands in the file")
	}
}

// TestFailedWrite: where the new file cannot be written, the old one and the keys
// in memory stay as they were.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Log("as root, the folder is removed instead of made read-only")
	}
	dir := filepath.Join(t.TempDir(), "keys")
	s := create(t, filepath.Join(dir, "keystore"))
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err == nil {
		t.Error("generated a key that is nowhere")
	}
	if m, err := s.Masters(t.Context()); err != nil || len(m) != 0 {
		t.Errorf("%v, %v", m, err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err != nil {
		t.Error(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keystore")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
