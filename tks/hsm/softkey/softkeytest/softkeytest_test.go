package softkeytest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
)

// before is what a key file of that cost meets in a process that has not called Cheap.
var before error

func TestMain(m *testing.M) {
	_, before = softkey.Create("nowhere", secret.New([]byte("a passphrase")), &softkey.Params{Time: 1, MemoryKiB: 8, Threads: 1})
	os.Exit(m.Run())
}

// TestCheap makes and opens a key file as no process may that has not called Cheap.
func TestCheap(t *testing.T) {
	if before == nil || !strings.Contains(before.Error(), "below the floor of t=2 m=19456 KiB p=1") {
		t.Errorf("before: %v", before)
	}
	path := filepath.Join(t.TempDir(), "keystore")
	s, err := softkey.Create(path, secret.New([]byte("a passphrase")), softkeytest.Cheap())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = softkey.Open(path, secret.New([]byte("a passphrase"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
