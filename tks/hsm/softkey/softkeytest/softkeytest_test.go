package softkeytest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
)

// TestCheap makes and opens a key file as no process may that has not called Cheap.
func TestCheap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keystore")
	create := func(p *softkey.Params) (*softkey.Store, error) {
		return softkey.Create(path, secret.New([]byte("a passphrase")), p)
	}
	if _, err := create(&softkey.Params{Time: 1, MemoryKiB: 8, Threads: 1}); err == nil || !strings.Contains(err.Error(), "below the floor of t=2 m=19456 KiB p=1") {
		t.Fatalf("before: %v", err)
	}
	s, err := create(softkeytest.Cheap())
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
