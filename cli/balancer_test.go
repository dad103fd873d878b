//go:build unix

package cli_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// balancer is haproxy in front of nodes, as the README configures it.
type balancer struct {
	url, socket string
}

// balance restarts the nodes with the address of haproxy, and starts that in front of
// them; it ends with the test.
func (f *fleet) balance(t *testing.T, ca string) *balancer {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal("haproxy is not installed: apt-get install haproxy")
	}
	port := freePort(t)
	b := &balancer{url: "https://localhost:" + port, socket: filepath.Join(f.dir, "haproxy.sock")}
	doc := readmeSection(t, "    defaults\n        mode tcp\n")
	edits := []string{":8443\n        default_backend", "127.0.0.1:" + port + "\n        default_backend", "/etc/haproxy/inkan-ca.pem", ca,
		" tps.example.org ", " localhost ", " tps.example.org\n", " localhost\n", "inter 2s", "inter 500ms"}
	for _, n := range f.nodes {
		n.stop(t)
		n.run(t, "config", "set", "listen.url="+b.url)
		n.serve(t)
		short, _, _ := strings.Cut(n.name, ".")
		edits = append(edits, short+".example.org:8443", n.listen().Address)
	}
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(doc, edits[i]) {
			t.Fatalf("the README's configuration of haproxy has no %q:\n%s", edits[i], doc)
		}
	}
	doc = fmt.Sprintf("    global\n        stats socket %s level user\n\n", b.socket) + strings.NewReplacer(edits...).Replace(doc)
	cmd := exec.Command(program, "-db", "-f", f.file(t, "haproxy.cfg", doc))
	p := startProcess(t, cmd, &f.said, &f.said)
	t.Cleanup(func() { p.end(t, syscall.SIGTERM) })
	for _, n := range f.nodes {
		b.await(t, n, "UP")
	}
	return b
}

// readmeSection is the indented text of the README that begins so.
func readmeSection(t *testing.T, begin string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), begin)
	if !found {
		t.Fatalf("the README has no %q", begin)
	}
	var out strings.Builder
	out.WriteString(begin)
	for line := range strings.Lines(text) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}

// state is what haproxy says of a node: its word for it, and how many sessions it has.
func (b *balancer) state(t *testing.T, n *fleetNode) (word string, sessions int) {
	t.Helper()
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		return "not asked: " + err.Error(), 0 // it has just been started
	}
	defer conn.Close()
	io.WriteString(conn, "show stat\n")
	rows, err := csv.NewReader(conn).ReadAll()
	if err != nil {
		t.Fatalf("what haproxy says: %v", err)
	}
	short, _, _ := strings.Cut(n.name, ".")
	for _, row := range rows {
		if row[0] == "nodes" && row[1] == short { // pxname, svname, qcur, qmax, scur, … status
			sessions, err := strconv.Atoi(row[4])
			if err != nil {
				t.Fatalf("what haproxy says: %q", row)
			}
			return row[17], sessions
		}
	}
	t.Fatalf("haproxy knows no %s: %q", n.name, rows)
	return "", 0
}

// await waits until haproxy has a word for a node.
func (b *balancer) await(t *testing.T, n *fleetNode, want string) {
	t.Helper()
	b.until(t, n, want, func(word string, _ int) bool { return word == want })
}

// busy waits until a node works on a card.
func (b *balancer) busy(t *testing.T, n *fleetNode) {
	t.Helper()
	b.until(t, n, "busy", func(_ string, sessions int) bool { return sessions > 0 })
}

func (b *balancer) until(t *testing.T, n *fleetNode, what string, is func(word string, sessions int) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		word, sessions := b.state(t, n)
		if is(word, sessions) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("haproxy does not call %s %s: it is %s with %d sessions", n.name, what, word, sessions)
		}
	}
}
