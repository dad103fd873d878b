// Package durable is what files share that outlive a power cut or a killed process:
// a replacement that leaves the old file or the new one, whole, and locks that end
// with their process. Most callers need [ReplaceFile] and [LockFile]; whoever writes
// piece by piece, or does something between writing and replacing, uses [Begin].
//
// A replacement is a temporary file beside the old one, fsync, rename, fsync of the
// folder. A full disk leaves the old file; a link in the file's place is replaced,
// never followed.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ReplaceFile puts b in place of path, whose folder is there.
func ReplaceFile(path string, b []byte, mode os.FileMode) error {
	r, err := Begin(path, mode)
	if err != nil {
		return err
	}
	_, err = r.Write(b)
	if err == nil {
		err = r.Commit()
	}
	return errors.Join(err, r.Discard())
}

// Replacement is a new file that is to take another one's place. It is for one
// goroutine.
type Replacement struct {
	f              *os.File
	path           string
	flushed, ended bool
	step           func(name string) error // of tests: the step fails with its error
}

// Begin makes a new file for path, which stays as it is until Commit. The mode holds
// before the first byte is written. Whoever begins ends with Commit or Discard.
func Begin(path string, mode os.FileMode) (*Replacement, error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix(path)+"*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	r := &Replacement{f: f, path: path}
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(r.failed(err), r.Discard())
	}
	return r, nil
}

// Write adds to the new file.
func (r *Replacement) Write(b []byte) (int, error) {
	if err := r.at("write"); err != nil {
		return 0, err
	}
	n, err := r.f.Write(b)
	return n, r.failed(err)
}

// Flush makes the new file durable beside the old one; nothing can be written to it
// after that.
func (r *Replacement) Flush() error {
	if r.flushed {
		return nil
	}
	if err := r.at("sync"); err != nil {
		return err
	}
	if err := errors.Join(r.f.Sync(), r.f.Close()); err != nil {
		return r.failed(err)
	}
	r.flushed = true
	return nil
}

// Commit flushes the new file and puts it in place. Where the error is that of the
// last step, the folder's fsync, it is in place already.
func (r *Replacement) Commit() error {
	if err := r.Flush(); err != nil {
		return err
	}
	if err := r.at("rename"); err != nil {
		return err
	}
	if err := os.Rename(r.f.Name(), r.path); err != nil {
		return r.failed(err)
	}
	r.ended = true
	if err := r.at("sync folder"); err != nil {
		return err
	}
	return r.failed(SyncDir(filepath.Dir(r.path)))
}

// Discard removes the new file; after Commit put it in place it does nothing.
func (r *Replacement) Discard() error {
	if r.ended {
		return nil
	}
	r.ended = true
	r.f.Close() // fails where Flush has closed it
	return r.failed(os.Remove(r.f.Name()))
}

func (r *Replacement) failed(err error) error {
	if err != nil {
		return fmt.Errorf("writing %s: %w", r.path, err)
	}
	return nil
}

func (r *Replacement) at(step string) error {
	if r.step == nil {
		return nil
	}
	return r.failed(r.step(step))
}

func tempPrefix(path string) string { return "." + filepath.Base(path) + TempMark }

// TempMark is in the name of every temporary file of this package.
const TempMark = ".new-"

// RemoveTemps removes what cut replacements of path have left. The caller sees to it
// that nobody else replaces path at this time.
func RemoveTemps(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix(path)) {
			err = errors.Join(err, Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

// Remove removes a file durably; that it is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what happened to names in a folder durable. Windows has no such
// call and needs none; neither need file systems that say they have none.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
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
