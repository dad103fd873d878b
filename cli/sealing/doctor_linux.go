package sealing

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryWarning is something that takes secrets out of memory.
type memoryWarning struct{ evidence, next string }

func memoryWarnings() (out []memoryWarning) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err == nil && limit.Max != 0 {
		out = append(out, memoryWarning{"a crash may write memory to the disk (core dumps are allowed)", "LimitCORE=0 in the service, or ulimit -Hc 0"})
	}
	if b, err := os.ReadFile("/proc/swaps"); err == nil && strings.Count(string(b), "\n") > 1 && !strings.Contains(string(b), "/dev/dm-") {
		out = append(out, memoryWarning{"memory may be swapped to a disk that is not encrypted", "encrypt the swap space, or turn it off"})
	}
	return out
}
