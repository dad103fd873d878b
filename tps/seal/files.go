package seal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"inkan/apdu/durable"
)

// LockFile is held in a folder while one of its files is opened or written.
const LockFile = ".seal.lock"

// lockWait is how long a call waits for another process (config-sealing.md §11).
const lockWait = 30 * time.Second

// HoldFolder takes the lock of a folder against other readers and writers of its
// sealed files, and of what lies beside them. It waits 30 seconds at most.
func HoldFolder(ctx context.Context, dir string) (release func() error, err error) {
	return holdFolder(ctx, dir, true)
}

// holdFolder takes the folder's lock. It ends with the process, whatever happens
// to it. A copy of the file in a child that is just being started may hold the lock
// a moment longer, so release unlocks before it closes.
func holdFolder(ctx context.Context, dir string, exclusive bool) (release func() error, err error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, ofFile("", "locking the folder", err)
	}
	for end := time.Now().Add(lockWait); ; {
		held, err := durable.TryLock(f, exclusive)
		if err != nil {
			return nil, errors.Join(ofFile("", "locking the folder", err), f.Close())
		}
		if held {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return nil, errors.Join(refuse(Locked, "", "%s is held by another process (%s)", path, holder(f)), f.Close())
		}
	}
	if exclusive { // for the message of whoever waits too long
		_ = f.Truncate(0)
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return func() error { return errors.Join(durable.Unlock(f), f.Close()) }, nil
}

func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if n == 0 {
		return "unknown"
	}
	return "process " + string(b[:n])
}

// readPrivate reads a regular file that only its owner may read.
func readPrivate(r Role, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ofFile(r, "opening the sealed file", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, ofFile(r, "opening the sealed file", err)
	}
	if !st.Mode().IsRegular() {
		return nil, refuse(Permission, r, "%s is not a regular file", path)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, refuse(Permission, r, "%s has mode %04o, want 0600", path, st.Mode().Perm())
	}
	const most = fixedSize + maxHeader + MaxPlaintext
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, ofFile(r, "reading the sealed file", err)
	}
	if len(b) > most {
		return nil, invalid(r, "%s has more than %d bytes", path, most)
	}
	return b, nil
}
