//go:build !linux

package cli

import "errors"

// memoryFolder fails: the system has no folder whose files are in memory.
func memoryFolder() (string, error) {
	return "", errors.New("this system has no folder in memory (tmpfs)")
}
