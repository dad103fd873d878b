//go:build (unix && !aix) || windows

package durable_test

import (
	"errors"
	"path/filepath"
	"testing"

	"inkan/apdu/durable"
)

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	for what, take := range map[string]func(string) (*durable.Lock, error){
		"on the file": durable.LockFile, "beside it": durable.LockBeside,
	} {
		path := filepath.Join(t.TempDir(), "f")
		l, err := take(path)
		must(t, err)
		if _, err := take(path); !errors.Is(err, durable.ErrInUse) {
			t.Errorf("%s: locked twice: %v", what, err)
		}
		must(t, l.Release())
		again, err := take(path)
		must(t, err)
		must(t, again.Release())
	}
}
