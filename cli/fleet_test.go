//go:build unix

package cli_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/softkey"
	"inkan/tps/auth"
	"inkan/tps/store/storetest/pgtest"
)

// fleet are nodes of one array, each a process of the built program with a folder of
// its own on ports of 127.0.0.1. They share a PostgreSQL database, and those with the
// role tks a token of SoftHSM.
type fleet struct {
	dir, program string
	env          []string
	hsm          hsmtest.SoftToken
	database     string // URL
	password     string // of the person demo
	url          string // of all nodes, as behind a load balancer; empty: each has its own
	said         output // what every process wrote
	nodes        []*fleetNode
}

// fleetNode is one of them.
type fleetNode struct {
	*fleet
	name        string // peer name
	data        string
	port, peer  string // of card clients and people, of the other nodes
	node        *process
	fingerprint string   // of the authority, once it serves card clients
	own         []string // environment of its machine alone
}

// newFleet builds the program and begins what the nodes share. It needs INKAN_REAL=1.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	soft := hsmtest.SoftHSM(t)
	dir, err := os.MkdirTemp("", "inkan-array-") // not t.TempDir: the paths of sockets have to be short
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{dir: dir, program: filepath.Join(dir, "inkan"), hsm: soft, database: pgtest.Database(t), password: "Zebra-Quartz-77"}
	f.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "SOFTHSM2_CONF=" + soft.Conf}
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.kill(t)
		}
		if t.Failed() {
			b := f.said.bytes()
			t.Logf("the processes said at the end:\n%s", b[max(0, len(b)-12000):])
		}
		os.RemoveAll(dir)
	})
	cmd := exec.Command("go", "build", "-o", f.program, "inkan/cli/inkan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building inkan: %v\n%s", err, out)
	}
	f.file(t, "password", f.password)
	f.file(t, "pin", "7351924")
	return f
}

func (f *fleet) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// add gives a node a name, a folder and ports.
func (f *fleet) add(t *testing.T, name string) *fleetNode {
	t.Helper()
	short, _, _ := strings.Cut(name, ".")
	n := &fleetNode{fleet: f, name: name, data: filepath.Join(f.dir, short), port: freePort(t), peer: freePort(t)}
	f.nodes = append(f.nodes, n)
	return n
}

// listen is how the node is reached.
func (n *fleetNode) listen() config.Listen {
	return config.Listen{
		Address: net.JoinHostPort("127.0.0.1", n.port), Names: []string{"localhost", "127.0.0.1"}, URL: cmp.Or(n.url, n.address()),
		Peer: net.JoinHostPort("127.0.0.1", n.peer), PeerName: n.name, PeerAddress: net.JoinHostPort("127.0.0.1", n.peer),
	}
}

// address is where the node alone is reached.
func (n *fleetNode) address() string { return "https://localhost:" + n.port }

// first makes the folder of the first node, for a trial with software cards, and its
// array.
func (f *fleet) first(t *testing.T, name string, init ...string) *fleetNode {
	t.Helper()
	n := f.add(t, name)
	cfg, err := config.Config{
		Node: config.Node{Name: name, Lab: true}, Listen: n.listen(), HSM: config.HSM{URI: f.hsm.URI}, TPS: config.TPS{AllowSimulator: true},
		Database: config.Database{URL: f.database},
	}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	params := softkey.FloorParams()
	err = server.Create(t.Context(), n.data, server.Answers{Config: cfg, KeyParams: &params, PasswordCost: cheap, AdminPassword: secret.New([]byte(f.password)),
		Admin: auth.User{ID: "demo", Name: "Demo Person", Mail: "demo@example.org", Roles: auth.Roles}})
	if err != nil {
		t.Fatal(err)
	}
	n.run(t, append([]string{"array", "init"}, init...)...)
	n.serve(t)
	return n
}

// invited is what inkan array invite --json prints.
type invited struct {
	server.Invited
	Code string
}

// invite lets a node join with roles.
func (n *fleetNode) invite(t *testing.T, name, roles string) (i invited) {
	t.Helper()
	n.query(t, &i, "array", "invite", "--peer", name, "--roles", roles)
	return i
}

// join adds a node with roles by an invite of n, and has it serve.
func (n *fleetNode) join(t *testing.T, name, roles string) *fleetNode {
	t.Helper()
	x := n.add(t, name)
	x.run(t, x.joining(t, n, n.invite(t, name, roles), roles)...)
	if f := filepath.Join(x.data, "inkan.toml"); n.url != "" {
		doc, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(f, bytes.ReplaceAll(doc, []byte(x.address()), []byte(n.url)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	x.serve(t)
	n.converged(t)
	return x
}

// joining is the command with which a new node joins.
func (n *fleetNode) joining(t *testing.T, primary *fleetNode, i invited, roles string) []string {
	t.Helper()
	l := n.listen()
	answers := fmt.Sprintf("node = %q\naddress = %q\nnames = [\"localhost\", \"127.0.0.1\"]\npeer = %q\npeer_address = %q\n", n.name, l.Address, l.Peer, l.PeerAddress)
	if strings.Contains(roles, "tks") {
		answers += fmt.Sprintf("hsm = %q\n", n.hsm.URI)
	}
	answers += fmt.Sprintf("[database]\nurl = %q\n", n.database)
	return []string{"array", "join", "--primary", i.Primary, "--name", n.name, "--roles", roles, "--fingerprint", i.Fingerprint,
		"--code-file", n.file(t, "code", i.Code), "--answers", n.file(t, n.name+".toml", answers)}
}

func (n *fleetNode) command(args ...string) *exec.Cmd {
	cmd := exec.Command(n.program, append([]string{"--data", n.data}, args...)...)
	cmd.Env, cmd.Dir = slices.Concat(n.env, n.own), n.dir
	return cmd
}

// call runs inkan on the node's machine to its end.
func (n *fleetNode) call(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := n.command(args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &n.said), io.MultiWriter(&errs, &n.said)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// run runs inkan and expects success.
func (n *fleetNode) run(t *testing.T, args ...string) string {
	t.Helper()
	r := n.call(t, args...)
	if r.code != 0 {
		t.Fatalf("%s: inkan %s: exit %d\n%s%s", n.name, strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// refused runs inkan and expects a refusal that says something.
func (n *fleetNode) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	if r := n.call(t, args...); r.code != 1 || !strings.Contains(r.err, says) {
		t.Errorf("%s: inkan %s: exit %d, want a refusal that says %q\n%s%s", n.name, strings.Join(args, " "), r.code, says, r.out, r.err)
	}
}

// query runs inkan with --json and decodes the answer into v.
func (n *fleetNode) query(t *testing.T, v any, args ...string) {
	t.Helper()
	out := n.run(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("inkan %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serve starts the node and waits until it is ready.
func (n *fleetNode) serve(t *testing.T) {
	t.Helper()
	cmd := n.command("--json", "serve")
	r, w := io.Pipe()
	p := startProcess(t, cmd, io.MultiWriter(&n.said, w), &n.said)
	n.node = p
	go func() {
		<-p.done
		w.Close()
	}()
	var l struct{ Address, Fingerprint, Peers string }
	if err := json.NewDecoder(r).Decode(&l); err != nil {
		t.Fatalf("starting %s: %v", n.name, err)
	}
	go io.Copy(io.Discard, r)
	if n.fingerprint = l.Fingerprint; l.Peers != n.listen().Peer {
		t.Errorf("%s serves the other nodes at %q", n.name, l.Peers)
	}
}

// kill ends the node as a power cut does.
func (n *fleetNode) kill(t *testing.T) {
	if n.node != nil {
		n.node.end(t, syscall.SIGKILL)
		n.node = nil
	}
}

// stop ends the node as a service manager does.
func (n *fleetNode) stop(t *testing.T) {
	t.Helper()
	if err := n.node.end(t, syscall.SIGTERM); err != nil {
		t.Errorf("%s ended with %v", n.name, err)
	}
	n.node = nil
}

// converged waits until all nodes agree.
func (n *fleetNode) converged(t *testing.T) (st server.ArrayStatus) {
	t.Helper()
	n.query(t, &st, "array", "status", "--wait", "60s")
	return st
}

// card runs an operation on a software card through the node.
func (n *fleetNode) card(t *testing.T, operation, image string) result {
	t.Helper()
	args := []string{"card", operation, "--json", "--sim", filepath.Join(n.dir, image), "--server", n.address(), "--fingerprint", n.fingerprint,
		"--user", "demo", "--password-file", filepath.Join(n.dir, "password")}
	if operation == "enroll" {
		args = append(args, "--pin-file", filepath.Join(n.dir, "pin"))
	}
	return n.call(t, args...)
}

// operate expects an operation to end well.
func (n *fleetNode) operate(t *testing.T, operation, image string) {
	t.Helper()
	if r := n.card(t, operation, image); r.code != 0 {
		t.Errorf("%s of %s through %s: exit %d\n%s%s", operation, image, n.name, r.code, r.out, r.err)
	}
}
