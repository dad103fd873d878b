//go:build unix

package seal_test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inkan/tps/seal"
)

const (
	countingDir    = "INKAN_TEST_SEAL_COUNT" // the folder
	countingAnchor = "INKAN_TEST_SEAL_ANCHOR"
)

// counted is how often each process counts.
const counted = 8

// TestProcesses: of several processes that change a file at once none loses another's
// change, while one here reads.
func TestProcesses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.sealer(), "0")
	var writers sync.WaitGroup
	const processes = 3
	for range processes {
		writers.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesChild$")
			cmd.Env = append(os.Environ(), countingDir+"="+b.dir, countingAnchor+"="+b.anchor.dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	stop, reading := make(chan struct{}), sync.WaitGroup{}
	reading.Go(func() {
		for s := b.sealer(); ; {
			select {
			case <-stop:
				return
			default:
			}
			o, err := s.Open(t.Context(), role)
			if err != nil {
				t.Error(err)
				return
			}
			if string(o.Bytes()) != strconv.FormatUint(o.Generation()-1, 10) {
				t.Errorf("generation %d holds %s", o.Generation(), o.Bytes())
			}
		}
	})
	writers.Wait()
	close(stop)
	reading.Wait()
	wants(t, b.sealer(), strconv.Itoa(processes*counted))
}

// TestProcessesChild is a writer of TestProcesses.
func TestProcessesChild(t *testing.T) {
	dir := os.Getenv(countingDir)
	if dir == "" {
		return
	}
	b := &bench{dir: dir, key: newKey("tms:seal:00112233:v01", 7), anchor: &fileAnchor{dir: os.Getenv(countingAnchor)}}
	s := b.sealer()
	for done := 0; done < counted; {
		o, err := s.Open(t.Context(), role)
		must(t, err)
		n, err := strconv.Atoi(string(o.Bytes()))
		must(t, err)
		_, err = s.Save(t.Context(), role, o.Generation(), []byte(strconv.Itoa(n+1)))
		switch {
		case err == nil:
			done++
		case !errors.Is(err, seal.Conflict):
			t.Fatal(err)
		}
	}
}

// TestLockWait: a call waits thirty seconds for another process, and no longer; then it
// says who that is.
func TestLockWait(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.sealer(), "one")
	synctest.Test(t, func(t *testing.T) {
		release, err := seal.HoldFolder(t.Context(), b.dir)
		must(t, err)
		start := time.Now()
		_, err = b.sealer().Open(t.Context(), role)
		if !errors.Is(err, seal.Locked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("it waited %s", took)
		}
		time.AfterFunc(10*time.Second, func() {
			if err := release(); err != nil {
				t.Error(err)
			}
		})
		wants(t, b.sealer(), "one")
	})
}
