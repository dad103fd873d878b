//go:build unix

package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/tps/auth"
	"inkan/tps/profile"
)

// plainNode is a node that serves card clients without TLS too.
type plainNode struct {
	*server.Node
	at  server.Listener
	log *output
}

// output is a log that is read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// servedPlain serves a folder, whose configuration has the line [listen] plain and the
// edits (old and new text in turn), until the test ends.
func servedPlain(t *testing.T, plain string, edits ...string) *plainNode {
	t.Helper()
	folder := prepared(t, t.TempDir())
	path := filepath.Join(folder, sealing.ConfigFile)
	doc, err := os.ReadFile(path)
	must(t, err)
	edits = append(edits, `plain = ""`, fmt.Sprintf("plain = %q", plain))
	must(t, os.WriteFile(path, []byte(strings.NewReplacer(edits...).Replace(string(doc))), 0o600))
	applet, err := fixtures.Applet(fixtures.DefaultApplet)
	must(t, err)
	applet[len(applet)-1] = 1 // not the synthetic one any more, which no real card gets
	must(t, os.WriteFile(filepath.Join(folder, server.AppletFolder, "1.4.58768072.ijc"), applet, 0o600))
	p := &plainNode{log: &output{}}
	p.Node, err = server.Open(t.Context(), folder, server.Options{Log: slog.New(slog.NewTextHandler(p.log, nil))})
	must(t, err)
	_, err = auth.Create(t.Context(), p.DB, auth.User{ID: "ada", Name: "Ada Lovelace"}, secret.New([]byte("analytical")))
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan server.Listener, 1), make(chan error, 1)
	go func() { ended <- p.Serve(ctx, func(l server.Listener) { ready <- l }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving: %v", err)
		}
		p.Close()
	})
	select {
	case p.at = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("serving: %v", err)
	}
	return p
}

// put stores a profile and enables it.
func (p *plainNode) put(t *testing.T, doc string) {
	t.Helper()
	d, err := profile.Decode([]byte(doc))
	must(t, err)
	_, err = p.DB.PutProfile(t.Context(), profile.Record{Name: d.Name, State: profile.Enabled, Document: doc})
	must(t, err)
}

// TestPlainListener serves the addresses of card clients and nothing else.
func TestPlainListener(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "localhost:0")
	if host, _, err := net.SplitHostPort(p.at.Plain); err != nil || !net.ParseIP(host).IsLoopback() {
		t.Fatalf("listens at %s", p.at.Plain)
	}
	if !strings.Contains(p.log.String(), "level=WARN msg=\"card clients on this machine are served without TLS too") {
		t.Errorf("no warning in the log:\n%s", p.log)
	}
	for path, want := range map[string]int{
		"/": 404, "/tps/v2/admin/users": 404, "/tps/rest/tokens": 404, "/tps/ui/": 404, "/healthz": 404, "/readyz": 404, "/metrics": 404,
		"/ca/chain.pem": 404, "/ca/crl": 404, "/.well-known/jwks.json": 404, "/tps/phoneHome": 200, "/tps/phoneHome?cuid=a0": 200,
		"/tps/tps": 400, "/nk_service": 400, "/tps/tps/": 404,
	} {
		res, err := http.Get("http://" + p.at.Plain + path)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, want)
		}
		if want == 200 && !regexp.MustCompile(`<Operation>http://(127\.0\.0\.1|localhost):\d+/tps/tps</Operation>`).Match(body) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if res, err := http.Get("http://" + p.at.Address + "/tps/phoneHome"); err == nil && res.StatusCode != http.StatusBadRequest {
		t.Errorf("the address for https answers http with %s", res.Status)
	}
}

// TestPlainListenerOld: HTTP/1.0 has no chunks, so that it can ask for the way
// only; ESC's GET is answered as tpsclient's POST is.
func TestPlainListenerOld(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "127.0.0.1:0")
	const begin = "16\r\ns=22&msg_type=2&operation=2\r\n"
	for _, c := range []struct{ send, status, ends string }{
		{"GET /tps/phoneHome?cuid=a0 HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK", "</ServiceInfo>\n"},
		{"POST /tps/tps HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + begin, "HTTP/1.0 400 Bad Request", "\r\n\r\n"},
		{"POST /nk_service HTTP/1.0\r\nContent-Length: 27\r\n\r\ns=22&msg_type=2&operation=2", "HTTP/1.0 400 Bad Request", "\r\n\r\n"},
		{"GET /nk_service HTTP/1.1\r\nTransfer-Encoding: chunked\r\nhost: localhost:58181\r\nContent-Type: text/plain\r\n\r\n1b" + begin[2:],
			"HTTP/1.1 200 OK", "s=42&msg_type=13&operation=2&result=1&message=8\r\n0\r\n\r\n"},
	} {
		conn, err := net.Dial("tcp", p.at.Plain)
		must(t, err)
		conn.SetDeadline(time.Now().Add(time.Minute))
		_, err = io.WriteString(conn, c.send)
		must(t, err)
		br := bufio.NewReader(conn)
		status, err := br.ReadString('\n')
		must(t, err)
		rest, err := io.ReadAll(br)
		conn.Close()
		if strings.TrimSpace(status) != c.status || err != nil || !strings.HasSuffix(string(rest), c.ends) {
			t.Errorf("%q:\n%s%s, %v", c.send, status, rest, err)
		}
	}
}

// TestPlainIsOff: nothing listens where nobody asked for it, and other machines
// are never served without TLS.
func TestPlainIsOff(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "")
	if p.at.Plain != "" || strings.Contains(p.log.String(), "without TLS") {
		t.Errorf("listens at %q\n%s", p.at.Plain, p.log)
	}
	if config.Default().Listen.Plain != "" {
		t.Error("on by default")
	}
	n, _ := opened(t)
	n.Config.Listen.Plain = "0.0.0.0:0" // behind the configuration's back
	if err := n.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("error %v", err)
	}
}
