//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sim

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// fileLock is a locked file that vanishes when it is released.
type fileLock struct{ f *os.File }

// lockFile takes an exclusive lock that ends with the process. The holder may
// have removed the file between our open and our lock: then it is taken anew.
func lockFile(path string) (io.Closer, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, ErrInUse
			}
			return nil, err
		}
		if samePlace(f, path) {
			return &fileLock{f}, nil
		}
		f.Close()
	}
}

func samePlace(f *os.File, path string) bool {
	ours, err1 := f.Stat()
	theirs, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(ours, theirs)
}

// Close removes the file, then the lock.
func (l *fileLock) Close() error {
	return errors.Join(os.Remove(l.f.Name()), l.f.Close())
}
