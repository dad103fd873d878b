//go:build (unix && !aix) || windows

package durable

import (
	"errors"
	"fmt"
	"os"
)

// Lock is an exclusive lock. It ends with the process, whatever happens to it.
type Lock struct{ f *os.File }

// ErrInUse: another process has the file.
var ErrInUse = errors.New("in use by another process")

// LockFile takes the lock of a file, which it makes with mode 0600 where there is
// none. It does not wait.
func LockFile(path string) (*Lock, error) { return lock(path, path) }

// LockBeside takes the lock of a file that may be replaced: it is held on FILE.lock.
func LockBeside(path string) (*Lock, error) { return lock(path+".lock", path) }

func lock(path, of string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	held, err := TryLock(f, true)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", of, err), f.Close())
	}
	if !held {
		return nil, errors.Join(fmt.Errorf("%s is %w", of, ErrInUse), f.Close())
	}
	return &Lock{f}, nil
}

// Release gives the lock up. The lock file stays: removing it would race. It unlocks
// before it closes: a child process that is just being started may hold a copy of
// the file for a moment, and the lock with it.
func (l *Lock) Release() error { return errors.Join(Unlock(l.f), l.f.Close()) }
