//go:build unix

package seal

import (
	"errors"

	"golang.org/x/sys/unix"
)

func isQuota(err error) bool { return errors.Is(err, unix.EDQUOT) }

// freeBytes is what this user may still write in a folder.
func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}
