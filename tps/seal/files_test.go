//go:build unix

package seal_test

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"inkan/tps/seal"
)

func TestCodesOfFileErrors(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]seal.Code{
		&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}: seal.NoSpace,
		&os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}: seal.NoSpace,
		&os.PathError{Op: "open", Path: "x", Err: syscall.EROFS}:   seal.Permission,
		&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}:  seal.Permission,
		fs.ErrNotExist:          seal.SealedMissing,
		errors.New("something"): "",
	} {
		if got := seal.CodeOf(seal.OfFile(role, "writing", err)); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if err := seal.Room(t.TempDir(), 1<<55); !errors.Is(err, seal.NoSpace) {
		t.Errorf("%v", err)
	}
	if err := seal.Room(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
}
