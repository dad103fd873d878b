//go:build unix

package cli_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/cli/sealing"
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
	port, hsm          string // hsm is the URI
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

// newSite builds the program, makes a token and a data folder, adds people, key
// sets and profiles, and starts a PC/SC service.
func newSite(t *testing.T, readers int) *site {
	t.Helper()
	s := newNode(t, hsmtest.SoftHSM(t))
	s.init(t)
	s.secret("\x40\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4A\x4B\x4C\x4D\x4E\x4F") // the published keys of a blank card
	s.pcsc = vpcdtest.Start(t, readers)
	s.env = append(s.env, s.pcsc.Env()...)
	s.allowSimulator(t)
	s.populate(t)
	return s
}

// newNode builds the program, for a node with its keys in an HSM.
func newNode(t *testing.T, hsm hsmtest.SoftToken) *site {
	t.Helper()
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
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "SOFTHSM2_CONF=" + hsm.Conf}
	s.admin = person{"ada", s.secret("Zebra-Quartz-77")}
	s.hsm = hsm.URI
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

// answers is a file with those of inkan init; more are lines before the first section.
func (s *site) answers(t *testing.T, more ...string) string {
	t.Helper()
	return s.file(t, "answers.toml", strings.Join(more, "\n")+fmt.Sprintf(`
node = "real"
address = %q
names = ["localhost", "127.0.0.1"]
hsm = %q
organization = "Example"
[admin]
user = %q
name = "Ada Lovelace"
mail = "ada@example.org"
password = %q
`, "127.0.0.1:"+s.port, s.hsm, s.admin.id, s.secretFile(t, s.admin.password)))
}

// init makes the data folder.
func (s *site) init(t *testing.T) {
	t.Helper()
	out := s.run(t, "init", "--answers", s.answers(t))
	if !strings.Contains(out.out, "vendor's backup") || !strings.Contains(out.out, "lost master key") {
		t.Errorf("init does not say what a backup must hold:\n%s", out.out)
	}
}

// allowSimulator makes the node serve software cards.
func (s *site) allowSimulator(t *testing.T) {
	t.Helper()
	s.configure(t, "allow_simulator = false", "allow_simulator = true")
}

// configure edits the configuration as an administrator would.
func (s *site) configure(t *testing.T, old, changed string) {
	t.Helper()
	path := filepath.Join(s.data, sealing.ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(b), old, changed, 1)
	if edited == string(b) {
		t.Fatalf("no %s in the configuration:\n%s", old, b)
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

// stop ends the node as a service manager does.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.node.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v", err)
	}
}

// awaitStep returns when the journal of a card shows a step that has begun and is
// not confirmed.
func (s *site) awaitStep(t *testing.T, cuid, step string) {
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

// logEnd shows the last of what the processes wrote.
func (s *site) logEnd(t *testing.T) {
	b := s.said.bytes()
	t.Logf("the processes said at the end:\n%s", b[max(0, len(b)-8000):])
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := pickPort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
