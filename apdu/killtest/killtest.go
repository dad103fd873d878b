//go:build unix

// Package killtest kills a process at a chosen step of its work, for tests of what
// it leaves. The process is the test binary again: [Kill] starts it with one test
// alone, which asks [Child] what it is to do.
package killtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
)

// variable tells the child what to do.
const variable = "INKAN_TEST_KILLED"

type task struct {
	At   int64
	Args []string
}

// Kill runs the test of this name as a process of its own that ends with SIGKILL at a
// step, counted from 1. False: it ended by itself, without error, before that. Any
// other end fails t.
func Kill(t *testing.T, child string, at int, args ...string) bool {
	t.Helper()
	told, err := json.Marshal(task{At: int64(at), Args: args})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+child+"$")
	cmd.Env = append(os.Environ(), variable+"="+string(told))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child at step %d: %v\n%s", at, err, out)
	}
	return true
}

// Child is what the child was started with, and the function that it calls at each
// step. Outside of a child there are no args, and the test has nothing to do.
func Child(t *testing.T) (args []string, step func()) {
	t.Helper()
	told := os.Getenv(variable)
	if told == "" {
		return nil, nil
	}
	var do task
	if err := json.Unmarshal([]byte(told), &do); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	return do.Args, func() {
		if n.Add(1) == do.At {
			err := syscall.Kill(os.Getpid(), syscall.SIGKILL)
			panic(err) // not reached
		}
	}
}
