package memtest_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"inkan/apdu/memtest"
)

// tests stand for those of a package.
type tests func() int

func (f tests) Run() int { return f() }

// inMemory is the folder that tests get; where there is none the test ends.
func inMemory(t *testing.T) string {
	t.Setenv("TMPDIR", "")
	dir := ""
	if got := memtest.Run(tests(func() int { dir = os.Getenv("TMPDIR"); return 3 })); got != 3 {
		t.Errorf("exit status %d, want 3", got)
	}
	if dir == "" {
		t.Skip("no folder in memory")
	}
	return dir
}

func TestRun(t *testing.T) {
	gone := inMemory(t)
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("after the tests: %v", err)
	}
	t.Setenv("TMPDIR", "")
	memtest.Run(tests(func() int {
		dir, err := os.MkdirTemp("", "a")
		if err != nil {
			t.Error(err)
		}
		if i, err := os.Stat(os.TempDir()); err != nil || i.Mode() != os.ModeDir|os.ModeSticky|0o777 || filepath.Dir(os.TempDir()) != filepath.Dir(gone) {
			t.Errorf("%s: %v, %v", os.TempDir(), i, err)
		}
		if rel, err := filepath.Rel(os.TempDir(), dir); err != nil || !filepath.IsLocal(rel) {
			t.Errorf("%s is not in %s", dir, os.TempDir())
		}
		return 0
	}))
}

func TestTold(t *testing.T) {
	told := t.TempDir()
	t.Setenv("TMPDIR", told)
	memtest.Run(tests(func() int {
		if os.Getenv("TMPDIR") != told {
			t.Errorf("TMPDIR is %s, want %s", os.Getenv("TMPDIR"), told)
		}
		return 0
	}))
}

func TestLeftovers(t *testing.T) {
	memory := filepath.Dir(inMemory(t))
	old := time.Now().Add(-time.Hour)
	var dirs []string
	for range 3 {
		dir, err := os.MkdirTemp(memory, "inkan-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	killed, running, young := dirs[0], dirs[1], dirs[2]
	f, err := os.Open(running)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{killed, running} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	inMemory(t)
	for end := time.Now().Add(time.Minute); there(killed) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		// the tests of another package may be the ones that remove it
	}
	for dir, want := range map[string]bool{killed: false, running: true, young: true} {
		if there(dir) != want {
			t.Errorf("%s: there %v, want %v", dir, !want, want)
		}
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
