package sealing

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"unicode/utf8"

	"inkan/apdu/durable"
	"inkan/tps/seal"
)

// readPlain reads the plain file of a role that only its owner may read.
func readPlain(folder string, r seal.Role) ([]byte, error) {
	path := plainFile(folder, r)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, &seal.Error{Code: seal.Permission, Role: r, Cause: fmt.Errorf("%s has mode %04o, want 0600", path, st.Mode().Perm())}
	}
	b, err := os.ReadFile(path)
	if err == nil && r == RoleConfig && !utf8.Valid(b) {
		err = fmt.Errorf("%s is not UTF-8 text", path)
	}
	return b, err
}

// Finish removes plain files that a cut change has left beside their sealed ones.
// One that says something else is refused: somebody put it there.
func (s *Folder) Finish(ctx context.Context) error {
	for _, r := range s.boot.Roles {
		path := plainFile(s.folder, r)
		plain, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return coded(fmt.Errorf("reading a plain file in a sealed folder: %w", err))
		}
		o, err := s.Open(ctx, r)
		same := false
		if err == nil {
			same = subtle.ConstantTimeCompare(o.Bytes(), plain) == 1
			o.Wipe()
		}
		clear(plain)
		if unmade(r, err) {
			same = true // the node makes another one
		} else if err != nil {
			return err
		}
		if !same {
			return &seal.Error{Code: seal.PlaintextFound, Role: r, Cause: fmt.Errorf("%s is there and says something else than the sealed file", path)}
		}
		s.o.Log.WarnContext(ctx, "removing a plain file that an interrupted change left", slog.String("file", path))
		if err := shred(path); err != nil {
			return coded(err)
		}
	}
	return nil
}

// shred overwrites and removes a file, as far as the disk does what it is told.
func shred(path string) error {
	if err := os.Chmod(path, 0o600); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			_, _ = f.Write(make([]byte, st.Size()))
			_ = f.Sync()
		}
		f.Close()
	}
	return durable.Remove(path)
}
