// Package durable is what the key service's own files share: a lock that ends
// with the process, and a replacement that a power cut leaves whole.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Lock is held on FILE.lock, as FILE itself may be replaced. It ends with the
// process, whatever happens to it.
type Lock struct{ f *os.File }

// ErrInUse: another process has the file.
var ErrInUse = errors.New("in use by another process")

// LockFile takes the lock of path without waiting for it.
func LockFile(path string) (*Lock, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is %w: %w", path, ErrInUse, err), f.Close())
	}
	return &Lock{f}, nil
}

// Release gives the lock up. The lock file stays: removing it would race. It unlocks
// before it closes: a child process that is just being started may hold a copy of
// the file for a moment, and the lock with it.
func (l *Lock) Release() error { return errors.Join(unlock(l.f), l.f.Close()) }

// ReplaceFile puts b in place of path, mode 0600, so that a cut at any
// instruction leaves the old file or the new one: temporary file beside it,
// fsync, rename, fsync of the folder.
func ReplaceFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir makes what happened to names in a folder durable. Windows has no such
// call and needs none.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// CheckPrivate refuses what is no regular file, or a file that others than its
// owner may touch.
func CheckPrivate(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may read it; chmod 600 it", f.Name(), st.Mode().Perm())
	}
	return nil
}
