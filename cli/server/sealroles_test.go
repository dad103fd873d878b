//go:build unix

package server_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/seal"
)

// TestRoleFile: a key of the node goes where the folder's other secrets are, and moves
// with them.
func TestRoleFile(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	plain := filepath.Join(folder, "peer", "peer.key")
	var none *sealing.Folder
	k := none.File(folder, sealing.RolePeerKey)
	if _, err := k.Load(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that was not made: %v", err)
	}
	must(t, k.Save(t.Context(), secret.New([]byte("one"))))
	must(t, os.Chmod(plain, 0o640))
	if _, err := k.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	must(t, os.Chmod(plain, 0o600))
	_, err := sealing.Seal(t.Context(), folder, place{}.plan(folder), server.Options{})
	must(t, err)
	if _, err := os.Stat(plain); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key lies in the clear: %v", err)
	}
	boot, err := seal.LoadBootstrap(folder)
	must(t, err)
	s, err := sealing.Open(t.Context(), folder, boot, server.Options{})
	must(t, err)
	k = s.File(folder, sealing.RolePeerKey)
	for _, next := range []string{"two", "three"} {
		must(t, k.Save(t.Context(), secret.New([]byte(next))))
		got, err := k.Load(t.Context())
		if err != nil || string(got.Bytes()) != next {
			t.Errorf("%q, %v", got.Bytes(), err)
		}
	}
	server := s.File(folder, sealing.RoleServerKey)
	if _, err := server.Load(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that was not made: %v", err)
	}
	must(t, s.Close())
	must(t, sealing.Disable(t.Context(), folder, sealing.Options{}))
	if b, err := os.ReadFile(plain); err != nil || string(b) != "three" {
		t.Errorf("%q, %v", b, err)
	}
}
