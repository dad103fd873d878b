package sealing

import (
	"os"

	"golang.org/x/sys/windows"
)

const errLocked = windows.ERROR_LOCK_VIOLATION

func tryLock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
}

// unlock does nothing: the lock ends with the file.
func unlock(*os.File) error { return nil }

// SyncFolder does nothing: Windows flushes a rename with the file.
func SyncFolder(string) error { return nil }
