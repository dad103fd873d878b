//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the role of all URLs; it needs no password.
const Superuser = "inkan"

const (
	lockedGroup  = "locked"
	lockedPrefix = "locked_"
)

// Server is a private PostgreSQL on a loopback port. Its methods are safe for
// concurrent use as long as nobody begins or ends it meanwhile.
type Server struct {
	bin      string // folder of the programs
	dir      string
	port     int
	settings []string
	janitor  *janitor

	mu  sync.Mutex
	cmd *exec.Cmd // nil: not running
}

// Start begins a server for this test alone, with settings like "fsync=on". It
// ends with the test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	Need(t)
	s, err := begin(settings...)
	if err != nil {
		t.Fatalf("beginning PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Errorf("ending PostgreSQL: %v", err)
		}
	})
	return s
}

// URL names a database of the server, with nothing after the name.
func (s *Server) URL(database string) string {
	return "postgres://" + Superuser + "@" + s.Address() + "/" + database
}

// Address is where the server listens.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// begin makes a cluster and starts its server.
func begin(settings ...string) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "inkan-pg")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, settings: settings}
	if s.janitor, err = newJanitor(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.initialize(); err != nil {
		return nil, errors.Join(err, s.end())
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.end())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.exec(ctx, s.URL("postgres"), "CREATE ROLE "+lockedGroup); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// programs is the folder of the newest server there is.
func programs() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	all, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(all) == 0 {
		return "", errors.New("no PostgreSQL server is installed: apt-get install postgresql")
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		return n
	}
	newest := slices.MaxFunc(all, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// access lets everybody on this machine in, except those who need a password.
const access = "local all all trust\n" +
	"host all +" + lockedGroup + " 127.0.0.1/32 scram-sha-256\n" +
	"host all all 127.0.0.1/32 trust\n"

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// initialize makes the cluster's folder.
func (s *Server) initialize() error {
	if who := owner(); who != nil {
		if err := os.Chown(s.dir, int(who.Uid), int(who.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", Superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(access), 0o600)
}

// command is a program of PostgreSQL, which refuses to run as root.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner()}
	return cmd
}

// owner is who runs the server; nil: who runs the test.
func owner() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return nil // initdb says why it refuses
}

// start starts the server on a free port, the one it had if it had one, and
// waits until it answers.
func (s *Server) start() error {
	deadline := time.Now().Add(patience)
	for {
		err := s.launch(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond) // its port was taken, or the one before it is not quite gone
	}
}

func (s *Server) launch(deadline time.Time) error {
	port := s.port
	if port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	args := []string{"-D", s.data(), "-p", strconv.Itoa(port), "-k", s.dir, "-h", "127.0.0.1"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	cmd := s.command("postgres", args...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("postgres ended: %s", bytes.TrimSpace(text[max(0, len(text)-1000):]))
		default:
		}
		if s.answers(port) {
			s.mu.Lock()
			s.port, s.cmd = port, cmd
			s.mu.Unlock()
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Kill()
	<-ended
	return errors.New("postgres did not answer within a minute")
}

// answers says whether it is this server that answers on the port.
func (s *Server) answers(port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres", Superuser, port))
	if err != nil {
		return false
	}
	defer c.Close(ctx)
	var folder string
	return c.QueryRow(ctx, "SHOW data_directory").Scan(&folder) == nil && folder == s.data()
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd != nil
}

// Stop ends the server as an operator does who restarts it: it cuts its clients off.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.stop(syscall.SIGINT)
}

// Kill ends the server and all its processes at once, as a power cut does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.stop(syscall.SIGKILL)
}

// Begin starts a stopped or killed server again, on the same port.
func (s *Server) Begin(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("beginning PostgreSQL again: %v", err)
	}
}

// stop signals the server, and with SIGKILL its children, and waits until it has ended.
func (s *Server) stop(sig syscall.Signal) {
	s.mu.Lock()
	cmd := s.cmd
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	pid := cmd.Process.Pid
	pids := []int{pid}
	if sig == syscall.SIGKILL {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for _, f := range strings.Fields(string(list)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, child)
			}
		}
	}
	for _, p := range pids {
		syscall.Kill(p, sig)
	}
	for syscall.Kill(pid, 0) == nil { // until it was waited for
		time.Sleep(5 * time.Millisecond)
	}
}

// end ends the server and removes all it wrote.
func (s *Server) end() error {
	s.stop(syscall.SIGINT)
	return s.janitor.end()
}
