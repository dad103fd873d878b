//go:build unix

package sealing

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// OwnerOf is the user id of a file's owner.
func OwnerOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("this system does not say whose file it is")
	}
	return strconv.FormatUint(uint64(st.Uid), 10), nil
}
