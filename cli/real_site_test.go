package cli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/sim/vpcd/vpcdtest"
	"inkan/tks/hsm/hsmtest"
	"inkan/tps/profile"
	"inkan/tps/store"
)

// site is a node with everything around it, in temporary folders.
type site struct {
	top                *testing.T // whose end is the site's end
	dir, data, program string
	port               string
	fingerprint        string
	env                []string
	pcsc               *vpcdtest.Daemon
	admin, stranger    person
	node               *process
	said               output // what every process wrote

	mu      sync.Mutex
	secrets []string
}

// person is a user of the site.
type person struct{ id, password string }

// process is a program that runs until it is told to end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set when done is closed
}

// newSite builds the program, makes a token and a data folder, adds people, key
// sets and profiles, and starts a PC/SC service.
func newSite(t *testing.T, readers int) *site {
	t.Helper()
	hsm := hsmtest.SoftHSM(t)
	// Not t.TempDir: the path of the node's socket has to be short.
	dir, err := os.MkdirTemp("", "inkan-real-")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{top: t, dir: dir, data: filepath.Join(dir, "data"), program: filepath.Join(dir, "inkan"), port: freePort(t)}
	t.Cleanup(func() {
		if s.node != nil {
			s.node.end(t, syscall.SIGKILL)
		}
		if t.Failed() {
			s.logEnd(t)
		}
		os.RemoveAll(dir)
	})
	s.secret(hsm.PIN)
	s.build(t)
	s.pcsc = vpcdtest.Start(t, readers)
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "SOFTHSM2_CONF=" + hsm.Conf,
	}, s.pcsc.Env()...)
	s.admin = person{"ada", s.secret("Zebra-Quartz-77")}
	s.init(t, hsm.URI)
	s.populate(t)
	return s
}

func (s *site) build(t *testing.T) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", s.program, "inkan/cli/inkan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building inkan: %v\n%s", err, out)
	}
}

func (s *site) init(t *testing.T, uri string) {
	t.Helper()
	answers := s.file(t, "answers.toml", fmt.Sprintf(`node = "real"
address = %q
names = ["localhost", "127.0.0.1"]
hsm = %q
organization = "Example"
[admin]
user = %q
name = "Ada Lovelace"
mail = "ada@example.org"
password = %q
`, "127.0.0.1:"+s.port, uri, s.admin.id, s.secretFile(t, s.admin.password)))
	out := s.run(t, "init", "--answers", answers)
	if !strings.Contains(out.out, "vendor's backup") || !strings.Contains(out.out, "lost master key") {
		t.Errorf("init does not say what a backup must hold:\n%s", out.out)
	}
	s.allowSimulator(t)
}

// allowSimulator edits the configuration as an administrator would.
func (s *site) allowSimulator(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.data, server.ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(b), "allow_simulator = false", "allow_simulator = true", 1)
	if edited == string(b) {
		t.Fatalf("no allow_simulator in the configuration:\n%s", b)
	}
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
}

// populate adds key sets, people, an applet and profiles, with no node running.
func (s *site) populate(t *testing.T) {
	t.Helper()
	s.run(t, "keyset", "create", "site", "--version", "03", "--type", "aes-128")
	s.run(t, "keyset", "create", "triple", "--version", "02", "--type", "des3")
	s.run(t, "keyset", "create", "triple", "--version", "03", "--type", "des3")
	for _, st := range stories {
		s.addUser(t, person{st.user, s.password(st.user)}, st.fullName)
	}
	s.stranger = person{"mallory", s.password("mallory")}
	s.addUser(t, s.stranger, "Mallory Stranger")
	applet, err := fixtures.Applet(fixtures.DefaultApplet)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.data, server.AppletFolder, fixtures.DefaultApplet+".ijc"), applet, 0o644); err != nil {
		t.Fatal(err)
	}
	s.putProfiles(t)
}

func (s *site) addUser(t *testing.T, p person, name string) {
	t.Helper()
	s.run(t, "user", "add", p.id, "--name", name, "--mail", p.id+"@example.org", "--upn", p.id+"@corp.example",
		"--password-file", s.secretFile(t, p.password))
}

// putProfiles stores the profiles of every story.
func (s *site) putProfiles(t *testing.T) {
	t.Helper()
	n, err := server.Open(t.Context(), s.data, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, st := range stories {
		for _, r := range st.profiles() {
			if _, err := profile.Decode([]byte(r.Document)); err != nil {
				t.Fatalf("profile %s: %v\n%s", r.Name, err, r.Document)
			}
			if _, err := n.DB.PutProfile(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// password is the password of a user.
func (s *site) password(user string) string { return s.secret("Copper-Lantern-" + user) }

// secret remembers what no process may write anywhere.
func (s *site) secret(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, text)
	return text
}

// secretFile writes a secret for a command to read.
func (s *site) secretFile(t *testing.T, text string) string {
	t.Helper()
	return s.file(t, "secret-"+hex.EncodeToString([]byte(text)), text+"\n")
}

func (s *site) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts the node and waits until it is ready.
func (s *site) serve(t *testing.T) {
	t.Helper()
	cmd := s.command("--debug", "--json", "serve")
	r, w := io.Pipe()
	p := startProcess(t, cmd, io.MultiWriter(&s.said, w), &s.said)
	go func() {
		<-p.done
		w.Close()
	}()
	var l struct{ Address, URL, Fingerprint string }
	if err := json.NewDecoder(r).Decode(&l); err != nil {
		t.Fatalf("starting the node: %v", err)
	}
	go io.Copy(io.Discard, r)
	s.node, s.fingerprint = p, l.Fingerprint
	if l.URL != s.url() {
		t.Errorf("the node says it serves %q", l.URL)
	}
	if resp := s.get(t, "/readyz"); !strings.Contains(string(resp), `"keys":"ok"`) {
		t.Errorf("readyz: %s", resp)
	}
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

// end sends a signal and waits.
func (p *process) end(t *testing.T, sig os.Signal) error {
	t.Helper()
	p.cmd.Process.Signal(sig) // ended already: all right
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%v did not end after %v", p.cmd.Args, sig)
	}
	return p.err
}

// stop ends the node as a service manager does.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.node.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v", err)
	}
}

// killAt kills the node when the journal of a card shows a step that has begun.
func (s *site) killAt(t *testing.T, cuid, step string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := store.Open(ctx, filepath.Join(s.data, "inkan.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for ; ; time.Sleep(2 * time.Millisecond) {
		open, err := db.OpenJournals(ctx)
		if err != nil {
			t.Fatalf("waiting for step %q: %v", step, err)
		}
		for _, j := range open {
			if j.CUID.String() != cuid {
				continue
			}
			if e := j.Entries[len(j.Entries)-1]; e.Step == step && !e.Confirmed {
				s.node.end(t, syscall.SIGKILL)
				return
			}
		}
	}
}

func (s *site) url() string { return "https://localhost:" + s.port }

// get fetches a page of the node, which has to prove itself by the site's CA.
func (s *site) get(t *testing.T, path string) []byte {
	t.Helper()
	pem, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := client.Get(s.url() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return b
}

// ca is the file with the authority's certificate.
func (s *site) ca() string { return filepath.Join(s.data, "ca", "ca.pem") }

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

// checkSecrets searches everything that was written: output of all processes, the
// audit record and the database. In the database only hashes may stand.
func (s *site) checkSecrets(t *testing.T) {
	t.Helper()
	texts := map[string][]byte{"output of the processes": s.said.bytes()}
	for _, dir := range []string{"audit", "keys", "ca", "inkan.toml", "inkan.db", "inkan.db-wal"} {
		err := filepath.WalkDir(filepath.Join(s.data, dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !e.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			texts[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(texts["output of the processes"]); n < 10_000 {
		t.Errorf("only %d bytes of output: the node did not log at debug level", n)
	}
	for name, text := range texts {
		for _, secret := range s.secrets {
			if form, found := contains(text, secret); found {
				t.Errorf("%s holds a secret, %s: %q", name, form, secret)
			}
		}
	}
}

// contains finds a secret as it is, in hexadecimal or in base64.
func contains(text []byte, secret string) (form string, found bool) {
	lower := bytes.ToLower(text)
	for form, image := range map[string]string{
		"as it is":       strings.ToLower(secret),
		"in hexadecimal": hex.EncodeToString([]byte(secret)),
		"in base64":      strings.ToLower(base64.RawStdEncoding.EncodeToString([]byte(secret))),
		"as octets":      strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	} {
		if bytes.Contains(lower, []byte(image)) {
			return form, true
		}
	}
	return "", false
}

// logEnd shows the last of what the processes wrote.
func (s *site) logEnd(t *testing.T) {
	b := s.said.bytes()
	t.Logf("the processes said at the end:\n%s", b[max(0, len(b)-8000):])
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

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
