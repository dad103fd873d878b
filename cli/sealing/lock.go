package sealing

import (
	"errors"
	"fmt"
	"os"
)

// FolderLock keeps other processes out of a data folder.
type FolderLock struct{ f *os.File }

// ErrInUse means that another process has the data folder open.
var ErrInUse = errors.New("another inkan process has this data folder open")

func Lock(path string) (*FolderLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	if err := tryLock(f); err != nil {
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%s: %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	return &FolderLock{f}, nil
}

// Release unlocks before it closes: a child process that is just being started may
// hold a copy of the file for a moment, and the lock with it.
func (l *FolderLock) Release() error { return errors.Join(unlock(l.f), l.f.Close()) }
