package seal

import (
	"errors"

	"golang.org/x/sys/windows"
)

func isQuota(err error) bool { return errors.Is(err, windows.ERROR_DISK_FULL) }

// freeBytes is what this user may still write in a folder.
func freeBytes(dir string) (uint64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return free, err
}
