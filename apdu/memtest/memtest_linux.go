package memtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	memory = "/dev/shm"
	prefix = "inkan-test-"
	// room is what has to be free, in memory and for files there: bytes.
	room   = 1 << 30
	noExec = 0x8 // ST_NOEXEC, statfs(2)
)

// folder makes a new folder in memory; end removes it. None and no error: there is no
// room.
func folder() (dir string, end func(), err error) {
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || fs.Flags&noExec != 0 || fs.Bavail*uint64(fs.Bsize) < room || available() < room {
		return "", nil, nil
	}
	sweep()
	if dir, err = os.MkdirTemp(memory, prefix); err != nil {
		return "", nil, err
	}
	held, err := hold(dir)
	if err == nil {
		err = os.Chmod(dir, 0o777|os.ModeSticky) // as /tmp: the servers of some tests run as other users
	}
	end = func() { os.RemoveAll(dir); held.Close() }
	if err != nil {
		end()
		return "", nil, err
	}
	return dir, end, nil
}

// available is the memory that programs may take: bytes.
func available() (n uint64) {
	b, _ := os.ReadFile("/proc/meminfo") // empty: none
	if _, after, ok := strings.Cut(string(b), "MemAvailable:"); ok {
		fmt.Sscan(after, &n)
	}
	return n << 10
}

// hold locks a folder for as long as its file is open; an error where somebody else has.
func hold(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes what tests that were killed have left in memory. A young folder may be
// one that is about to be held.
func sweep() {
	all, _ := filepath.Glob(filepath.Join(memory, prefix+"*")) // the pattern is sound
	for _, dir := range all {
		if i, err := os.Stat(dir); err != nil || time.Since(i.ModTime()) < time.Minute {
			continue
		}
		if held, err := hold(dir); err == nil {
			os.RemoveAll(dir)
			held.Close()
		}
	}
}
