package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"inkan/tks/internal/durable"
)

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	l, err := durable.LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.LockFile(path); err == nil {
		t.Error("locked twice")
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestReplaceFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []string{"one", "two"} {
		if err := durable.ReplaceFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := durable.CheckPrivate(f); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := durable.CheckPrivate(f); err == nil {
		t.Error("a file that the group may read passed")
	}
	if err := durable.ReplaceFile(dir, nil); err == nil { // a folder is in the way
		t.Error("replaced a folder")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
