package audit_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"inkan/tps/audit"
)

// TestFullDisk: /dev/full takes nothing. Once the log is on a disk with space
// again, it goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, audit.FileName)
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	for range 2 {
		if err := l.Record(t.Context(), audit.Event{Name: "LOST"}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record(t, l, "KEPT")
	if got := names(t, dir); !slices.Equal(got, []string{"KEPT"}) {
		t.Errorf("got %v", got)
	}
}

// TestLostEvents: a log that is shorter than what was acknowledged is not continued.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	record(t, l, "ONE")
	log := read(t, dir)
	path := filepath.Join(dir, audit.FileName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	audit.Break(l)
	if err := l.Record(t.Context(), audit.Event{Name: "TWO"}); err == nil || !strings.Contains(err.Error(), "lost events") {
		t.Errorf("got %v", err)
	}
	write(t, dir, log)
	record(t, l, "TWO")
	if got := names(t, dir); !slices.Equal(got, []string{"ONE", "TWO"}) {
		t.Errorf("got %v", got)
	}
}

// TestPartialWrite runs itself as a process whose files end in the middle of a line.
func TestPartialWrite(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("INKAN_TEST_PARTIAL_WRITE"); dir != "" {
		partialWrite(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPartialWrite$")
	cmd.Env = append(os.Environ(), "INKAN_TEST_PARTIAL_WRITE="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"ONE", "THREE"}) {
		t.Errorf("got %v", got)
	}
}

func partialWrite(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	l := open(t, dir)
	record(t, l, "ONE")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = uint64(len(read(t, dir)) + 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	before := len(read(t, dir))
	if err := l.Record(t.Context(), audit.Event{Name: "TWO"}); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("got %v", err)
	}
	if after := len(read(t, dir)); after != before {
		t.Errorf("%d bytes, %d before", after, before)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	record(t, l, "THREE")
}
