//go:build unix

package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
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

// servedPlain serves a folder, whose configuration has the line [listen] plain,
// until the test ends.
func servedPlain(t *testing.T, plain string) *plainNode {
	t.Helper()
	folder := prepared(t, t.TempDir())
	path := filepath.Join(folder, server.ConfigFile)
	doc, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(doc, []byte(`plain = ""`), fmt.Appendf(nil, "plain = %q", plain), 1), 0o600))
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

// recipe is the profile of the README's recipe for tpsclient.
func recipe(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	must(t, err)
	_, rest, found := strings.Cut(string(b), "    name = \"softToken\"\n")
	if !found {
		t.Fatal("the README has no profile softToken")
	}
	doc := "name = \"softToken\"\n"
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			return doc
		}
		doc += strings.TrimPrefix(line, "    ")
	}
	return doc
}

// Operations of BEGIN_OP.
const (
	opEnroll   = 1
	opResetPIN = 3
	opFormat   = 5
)

func (p *plainNode) client(last byte, profile string) *tpsClient {
	return &tpsClient{address: p.at.Plain, token: newSoftToken(last), user: "ada", pass: "analytical", pin: "p4ssword",
		extensions: []string{"tokenType=" + profile}}
}

// TestTPSClient formats, enrolls and resets the PIN of Dogtag's soft token with
// the README's profile, and with C-MAC alone; with the logins, extensions and
// addresses that its scripts may use.
func TestTPSClient(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "127.0.0.1:0")
	doc := recipe(t)
	p.put(t, doc)
	p.put(t, strings.NewReplacer(`"softToken"`, `"macToken"`, `level = "enc"`, `level = "mac"`, "empty_field = true", "empty_field = false",
		"[compat]", "[enroll]\nseveral_active = true\n[compat]").Replace(doc))
	for i, c := range []struct {
		profile, path string
		more          []string
		mac           bool
	}{
		{profile: "softToken"},
		{profile: "macToken", path: "/tps/tps", more: []string{"statusUpdate=true", "clientVersion=ESC/1.0", "extendedLoginRequest=true"}},
	} {
		cl := p.client(byte(i), c.profile)
		cl.path, cl.extensions = c.path, append(c.more, cl.extensions...)
		for _, op := range []int{opFormat, opEnroll, opResetPIN} {
			cl.pin = fmt.Sprintf("p4ssword%d", op)
			got, err := cl.run(t, op)
			if err != nil || got != (result{operation: op}) {
				t.Fatalf("profile %s, operation %d: %+v, %v\n%s", c.profile, op, got, err, p.log)
			}
		}
		if string(cl.token.pin) != "p4ssword3" || cl.token.wrong != 0 || cl.token.commands == 0 {
			t.Errorf("PIN %q, %d of %d commands refused", cl.token.pin, cl.token.wrong, cl.token.commands)
		}
		if slices.Contains(cl.types, 32) {
			t.Error("batches for a client that did not ask for them")
		}
		if login := map[bool]int{false: 3, true: 16}[len(c.more) > 0]; !slices.Contains(cl.types, login) {
			t.Errorf("messages %v, want %d among them", cl.types, login)
		}
		if told := slices.Contains(cl.tasks, "PROGRESS_KEY_GENERATION"); told != (len(c.more) > 0) {
			t.Errorf("status updates %q", cl.tasks)
		}
		rec, err := p.DB.Token(t.Context(), cl.token.cuid)
		must(t, err)
		if rec.State != token.Active || rec.UserID != "ada" || rec.KeySet != "factory" || !bytes.Equal(rec.KeyInfo, []byte{1, 1}) {
			t.Errorf("record %+v", rec)
		}
		for _, a := range activities(t, p, cl.token) {
			if !a.Success {
				t.Errorf("activity %+v", a)
			}
		}
		certs, err := p.DB.CertificatesOf(t.Context(), cl.token.cuid)
		must(t, err)
		if len(certs) != 1 || certs[0].State != token.CertActive {
			t.Errorf("certificates %+v", certs)
		}
	}
}

func activities(t *testing.T, p *plainNode, s *softToken) []token.Activity {
	t.Helper()
	all, err := p.DB.Activities(t.Context(), token.Filter{CUID: (*apdu.CUID)(&s.cuid)})
	must(t, err)
	if len(all) < 4 { // added, formatted, enrolled, PIN reset
		t.Errorf("activities %+v", all)
	}
	return all
}

// TestCompat turns every switch that the soft token needs the other way: the
// operation in question fails, and the client is told.
func TestCompat(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "127.0.0.1:0")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	for i, c := range []struct {
		name, on, off string
		fails         int // operation
		left          bool
	}{
		{"no-le", "no_le = true", "no_le = false", opEnroll, false},
		{"empty-field", "empty_field = true", "empty_field = false", opEnroll, true},
		{"list-keys", "list_keys = false", "list_keys = true", opFormat, true},
		{"clear-slots", "clear_slots = false", "clear_slots = true", opEnroll, true},
		{"read-back", "read_back = false", "read_back = true", opEnroll, false},
		{"applet-check", "applet_check = false", "applet_check = true", opFormat, false},
	} {
		t.Run("switch="+c.name, func(t *testing.T) {
			doc := recipe(t)
			if !strings.Contains(doc, c.on) {
				t.Fatalf("the recipe does not say %s", c.on)
			}
			p.put(t, strings.NewReplacer(`"softToken"`, `"`+c.name+`"`, c.on, c.off).Replace(doc))
			cl := p.client(byte(0x10+i), c.name)
			cl.token.newKey = func(_ int, challenge []byte) []byte { return resultOf(key, challenge) }
			for _, op := range []int{opFormat, opEnroll} {
				got, err := cl.run(t, op)
				if op != c.fails {
					if err != nil || got.result != 0 {
						t.Fatalf("operation %d: %+v, %v", op, got, err)
					}
					continue
				}
				if c.left != errors.Is(err, errLeft) || !c.left && (err != nil || got.result != 1) {
					t.Errorf("operation %d with %s: %+v, %v", op, c.off, got, err)
				}
				return
			}
		})
	}
}

// TestSoftTokenTranscript holds our soft token against Dogtag's: the answers that
// the real one gave to recorded commands, byte for byte. Its challenges and keys
// are taken from the record.
func TestSoftTokenTranscript(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]byte{"tpsclient-enc.txt": 0xC9, "tpsclient-mac.txt": 0xCA} {
		f, err := os.Open(filepath.Join("..", "..", "fixtures", "transcripts", name))
		must(t, err)
		defer f.Close()
		tr, err := apdutest.ReadTranscript(f)
		must(t, err)
		s := newSoftToken(last)
		changed := false
		for i, x := range tr.Steps {
			ins := x.Cmd[1]
			if ins == 0x50 && len(x.Answer) > 2 {
				s.challenge = func() [8]byte { return [8]byte(x.Answer[12:]) }
			}
			s.newKey = func(int, []byte) []byte { return recordedKey(tr.Steps[i+1:]) }
			changed = changed || ins == 0xD8
			got, err := s.transmit(x.Cmd)
			if err != nil || !bytes.Equal(got, x.Answer) {
				t.Fatalf("%s, exchange %d, command %X:\n got %X, %v\nwant %X", name, i+1, x.Cmd, got, err, x.Answer)
			}
		}
		if s.wrong != 0 || s.commands < 20 || changed != (name == "tpsclient-mac.txt") {
			t.Errorf("%s: %d of %d commands refused, keys changed: %t", name, s.wrong, s.commands, changed)
		}
	}
}

// recordedKey puts the pieces together in which a key was read.
func recordedKey(steps []apdutest.Step) (key []byte) {
	for _, x := range steps {
		if x.Cmd[1] != 0x56 {
			break
		}
		key = append(key, x.Answer[:len(x.Answer)-2]...)
	}
	return key
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
