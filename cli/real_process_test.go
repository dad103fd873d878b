//go:build unix

package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// process is a program that runs until it is told to end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set when done is closed
}

// startProcess starts a program. Whoever calls it ends it.
func startProcess(t *testing.T, cmd *exec.Cmd, out, errs io.Writer) *process {
	t.Helper()
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// end sends a signal and waits.
func (p *process) end(t *testing.T, sig os.Signal) error {
	t.Helper()
	p.cmd.Process.Signal(sig) // ended already: all right
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%v did not end after %v", p.cmd.Args, sig)
	}
	return p.err
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, append([]string{"--data", s.data}, args...)...)
	cmd.Env, cmd.Dir = s.env, s.dir
	return cmd
}

// call runs inkan to its end.
func (s *site) call(t *testing.T, args ...string) result {
	t.Helper()
	return s.await(t, s.command(args...))
}

// await runs a program to its end and keeps what it wrote.
func (s *site) await(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &s.said), io.MultiWriter(&errs, &s.said)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// run runs inkan and expects success.
func (s *site) run(t *testing.T, args ...string) result {
	t.Helper()
	r := s.call(t, args...)
	if r.code != 0 {
		t.Fatalf("inkan %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r
}

// query runs inkan with --json and decodes the answer into v.
func (s *site) query(t *testing.T, v any, args ...string) {
	t.Helper()
	r := s.run(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(r.out), v); err != nil {
		t.Fatalf("inkan %s: %v\n%s", strings.Join(args, " "), err, r.out)
	}
}

// output collects what several processes write at a time.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}
