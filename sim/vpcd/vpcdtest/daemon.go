// Package vpcdtest starts private PC/SC services with virtual readers, for tests
// that want the real pcscd between a software card and a program.
//
//	d := vpcdtest.Start(t, 1)
//	d.Plug(t, 0, card)
//	cmd := exec.Command("opensc-tool", "-a")
//	cmd.Env = append(os.Environ(), d.Env()...)
//
// It runs only with INKAN_REAL=1, and then a missing part fails the test. Several
// services run side by side; none touches the machine's own.
package vpcdtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Where Debian puts the parts.
const (
	pcscdPath  = "/usr/sbin/pcscd"
	driverPath = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	runDir     = "/run/pcscd" // pcscd wants it to exist
)

// MaxSlots is how many slots one pcscd takes.
const MaxSlots = 16

// readyIn bounds the start of pcscd.
const readyIn = 10 * time.Second

// Daemon is a running pcscd with empty virtual readers.
type Daemon struct {
	Socket  string   // path of the client socket, for PCSCLITE_CSOCK_NAME
	Ports   []int    // TCP port of each slot, on 127.0.0.1
	Readers []string // reader name of each slot, as PC/SC programs see it

	name  string
	dir   string
	cmd   *exec.Cmd
	log   logBuffer
	close sync.Once
	done  chan struct{} // closed when pcscd has ended
}

// Need skips the test unless INKAN_REAL=1, and fails it where one of the named
// programs is then missing.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs real parts: set INKAN_REAL=1")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("a real part is missing: %v", err)
		}
	}
}

// Start starts pcscd with 1 to MaxSlots slots and stops it at the end of the
// test. When it returns, every slot takes a card. The environment of the test
// process stays as it is: see [Daemon.Env] and [Daemon.Setenv].
func Start(t testing.TB, slots int) *Daemon {
	t.Helper()
	return StartAs(t, "Inkan Virtual", slots)
}

// StartAs is [Start] with readers of another name: programs choose theirs by it.
func StartAs(t testing.TB, name string, slots int) *Daemon {
	t.Helper()
	Need(t, pcscdPath, "sh")
	if slots < 1 || slots > MaxSlots {
		t.Fatalf("vpcdtest: %d slots, want 1 to %d", slots, MaxSlots)
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		t.Fatalf("vpcdtest: pcscd needs %s: %v", runDir, err)
	}
	dir, err := os.MkdirTemp("", "inkan-pcsc-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{name: name, dir: dir, Socket: filepath.Join(dir, "comm"), done: make(chan struct{})}
	t.Cleanup(func() {
		d.Close()
		if t.Failed() {
			t.Logf("pcscd said:\n%s", d.log.String())
		}
	})
	if err := d.start(slots); err != nil {
		t.Fatalf("vpcdtest: %v\n%s", err, d.log.String())
	}
	return d
}

// Env is the environment that leads a PC/SC program to this service.
func (d *Daemon) Env() []string { return []string{"PCSCLITE_CSOCK_NAME=" + d.Socket} }

// Setenv leads the test process itself to this service, for the rest of the test.
// It must come before the first PC/SC context.
func (d *Daemon) Setenv(t testing.TB) {
	t.Helper()
	t.Setenv("PCSCLITE_CSOCK_NAME", d.Socket)
}

// Addr is the address of a slot, for vpcd.Client.
func (d *Daemon) Addr(slot int) string { return fmt.Sprintf("127.0.0.1:%d", d.Ports[slot]) }

// Close stops pcscd. Calling it again does nothing.
func (d *Daemon) Close() {
	d.close.Do(func() {
		if d.cmd != nil {
			d.cmd.Process.Signal(syscall.SIGTERM) // gone already: all right
			select {
			case <-d.done:
			case <-time.After(5 * time.Second):
				d.cmd.Process.Kill()
				<-d.done
			}
		}
		os.RemoveAll(d.dir)
	})
}

// start returns when every slot listens. Where somebody took a port between its
// being found free and its use, pcscd runs on without readers: that is an error
// after readyIn.
func (d *Daemon) start(slots int) error {
	if err := d.configure(slots); err != nil {
		return err
	}
	if err := d.launch(); err != nil {
		return err
	}
	end := time.Now().Add(readyIn)
	for {
		open, err := listening()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(d.Ports, func(p int) bool { return !open[p] }) {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("pcscd ended at once")
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("pcscd does not listen on %v after %v", d.Ports, readyIn)
		}
	}
}

// configure writes one reader entry per two slots, each with its own copy of the
// driver: the driver's state is global to the file it was loaded from.
func (d *Daemon) configure(slots int) error {
	conf := filepath.Join(d.dir, "conf")
	if err := os.Mkdir(conf, 0o755); err != nil {
		return err
	}
	driver, err := os.ReadFile(driverPath)
	if err != nil {
		return fmt.Errorf("a real part is missing: %w", err)
	}
	for i := 0; i < slots; i += 2 {
		port, err := freePair()
		if err != nil {
			return err
		}
		lib := filepath.Join(d.dir, fmt.Sprintf("libifdvpcd%d.so", i/2))
		if err := os.WriteFile(lib, driver, 0o755); err != nil {
			return err
		}
		name := fmt.Sprintf("%s %d", d.name, i/2)
		entry := fmt.Sprintf("FRIENDLYNAME %q\nDEVICENAME /dev/null:%d\nLIBPATH %s\n", name, port, lib)
		if err := os.WriteFile(filepath.Join(conf, fmt.Sprintf("reader%d", i/2)), []byte(entry), 0o644); err != nil {
			return err
		}
		for slot := range min(2, slots-i) {
			d.Ports = append(d.Ports, port+slot)
			d.Readers = append(d.Readers, fmt.Sprintf("%s 00 %02X", name, slot))
		}
	}
	return nil
}

// launch hands pcscd its client socket as systemd would: descriptor 3, and the
// process's own number in LISTEN_PID.
func (d *Daemon) launch() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.Socket, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(d.Socket, 0o666); err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	d.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" --foreground --config "$1"`, pcscdPath, filepath.Join(d.dir, "conf"))
	d.cmd.Env = append(os.Environ(), "LISTEN_FDS=1")
	d.cmd.ExtraFiles = []*os.File{f}
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	go func() {
		d.cmd.Wait() // how it ended does not matter
		close(d.done)
	}()
	return nil
}

// freePair finds two adjacent free ports.
func freePair() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port+1))
		l.Close()
		if err == nil {
			next.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two adjacent ports are free")
}

// listening is the set of TCP ports that somebody listens on. Asking a slot itself
// would insert a card.
func listening() (map[int]bool, error) {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, line := range strings.Split(string(b), "\n") {
		var n, addr, port, rem, state int
		if _, err := fmt.Sscanf(line, " %d: %x:%x %x:%x %x", &n, &addr, &port, &rem, &rem, &state); err == nil && state == 0x0A {
			ports[port] = true
		}
	}
	return ports, nil
}

// logBuffer collects output from another goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
