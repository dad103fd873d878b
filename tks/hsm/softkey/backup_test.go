package softkey_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/kdf"
)

func TestBackup(t *testing.T) {
	t.Parallel()
	s := create(t, filepath.Join(t.TempDir(), "keystore"))
	fill(t, s)
	path := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(path, pass("safe place")); err != nil {
		t.Fatal(err)
	}
	c, err := s.CheckBackup(path, pass("safe place"))
	if err != nil || c.Keys != 2 || c.Label != "tms:master:site:v02" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := s.CheckBackup(path, pass("correct horse")); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("with the live passphrase: %v, want ErrPIN", err)
	}
	if err := s.Backup(path, pass("x")); err == nil {
		t.Error("overwrote a backup")
	}
	restored, err := softkey.Restore(path, pass("safe place"), filepath.Join(t.TempDir(), "again"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := restored.Masters(t.Context())
	if err != nil || len(got) != 1 || got[0] != want[0] {
		t.Errorf("restored %+v, want %+v, %v", got, want, err)
	}
	if err := restored.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := softkey.Open(restored.Path(), pass("safe place"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Signer(t.Context(), hsm.CALabel("inkan", 1)); err != nil {
		t.Error(err)
	}
}

// TestCheckBackupFinds what makes a backup useless.
func TestCheckBackupFinds(t *testing.T) {
	t.Parallel()
	s := create(t, filepath.Join(t.TempDir(), "keystore"))
	empty := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(empty, pass("p")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckBackup(empty, pass("p")); err == nil {
		t.Error("a backup of nothing is fine")
	}
	fill(t, s)
	if _, err := s.CheckBackup(empty, pass("p")); err == nil || !strings.Contains(err.Error(), "tms:master:site:v02") {
		t.Errorf("a key is missing: %v", err)
	}
	other := create(t, filepath.Join(t.TempDir(), "keystore"))
	fill(t, other)
	foreign := filepath.Join(t.TempDir(), "backup")
	if err := other.Backup(foreign, pass("p")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckBackup(foreign, pass("p")); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("backup of another store: %v", err)
	}
	whole := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(whole, pass("p")); err != nil {
		t.Fatal(err)
	}
	b := read(t, whole)
	b[len(b)/2] ^= 1
	if err := os.WriteFile(whole, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CheckBackup(whole, pass("p")); err == nil {
		t.Error("a damaged backup is fine")
	}
}

// TestCheckBackupOfSignersOnly: without a master key, a signing key is tried.
func TestCheckBackupOfSignersOnly(t *testing.T) {
	t.Parallel()
	s := create(t, filepath.Join(t.TempDir(), "keystore"))
	if _, err := s.GenerateSigner(t.Context(), hsm.CALabel("inkan", 1), hsm.P256); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(path, pass("p")); err != nil {
		t.Fatal(err)
	}
	if c, err := s.CheckBackup(path, pass("p")); err != nil || c.Label != "tms:ca:inkan:v01" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBackupElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := create(t, filepath.Join(dir, "keystore"))
	if err := s.Backup(filepath.Join(dir, "copy"), pass("p")); err == nil || !strings.Contains(err.Error(), "another disk") {
		t.Errorf("beside the original: %v", err)
	}
	if err := s.Backup(filepath.Join(dir, "no", "such", "folder"), pass("p")); err == nil {
		t.Error("into a folder that is not there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(filepath.Join(t.TempDir(), "copy"), pass("p")); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}
