// Package memtest has the tests of a package write to memory: what commits to a disk
// waits for it, tens of thousands of times. A test that kills processes finds the same
// there, only a power cut loses what is in memory. [Run] takes the place of
// testing.M.Run in TestMain.
package memtest

import (
	"fmt"
	"os"
)

// Run runs the tests with a temporary folder in memory, where the system has one with
// room in which programs may run; else, and where TMPDIR is set, as they are. It
// returns their exit status.
func Run(m interface{ Run() int }) int {
	if os.Getenv("TMPDIR") != "" {
		return m.Run()
	}
	dir, end, err := folder()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests write to the disk:", err)
	}
	if dir == "" {
		return m.Run()
	}
	defer end()
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, "tests write to the disk:", err)
	}
	return m.Run()
}
