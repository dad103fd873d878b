package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/tps/auth"
	"inkan/tps/wire"
)

// rawClient writes and reads the protocol's bytes as they stand on the wire.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
}

func dialRaw(t *testing.T, s *server) *rawClient {
	c := dialTLS(t, s)
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (c *rawClient) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("writing: %v", err)
	}
}

// send writes a message body as one chunk.
func (c *rawClient) send(body string) {
	c.t.Helper()
	frame := fmt.Sprintf("s=%d&%s", len(body), body)
	c.write(fmt.Sprintf("%x\r\n%s\r\n", len(frame), frame))
}

func (c *rawClient) line() string {
	c.t.Helper()
	s, err := c.br.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a line: %v after %q", err, s)
	}
	if !strings.HasSuffix(s, "\r\n") {
		c.t.Fatalf("line %q does not end in CRLF", s)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// head reads a response head and returns its lines.
func (c *rawClient) head() []string {
	c.t.Helper()
	var lines []string
	for {
		l := c.line()
		if l == "" {
			return lines
		}
		lines = append(lines, l)
	}
}

// chunk reads one chunk, checks its framing (§1.3) and returns its data.
func (c *rawClient) chunk() string {
	c.t.Helper()
	size := c.line()
	n, err := strconv.ParseUint(size, 16, 16)
	if err != nil || size != "0" && size[0] == '0' {
		c.t.Fatalf("chunk size line %q", size)
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.br, b); err != nil {
		c.t.Fatalf("reading a chunk of %d bytes: %v", n, err)
	}
	if string(b[n:]) != "\r\n" {
		c.t.Fatalf("chunk ends in %q", b[n:])
	}
	return string(b[:n])
}

func (c *rawClient) expect(body string) {
	c.t.Helper()
	want := fmt.Sprintf("s=%d&%s", len(body), body)
	if got := c.chunk(); got != want {
		c.t.Fatalf("chunk %q, want %q", got, want)
	}
}

// expectEnd reads END_OP, the terminal chunk and the end of the connection.
func (c *rawClient) expectEnd(operation, status int) {
	c.t.Helper()
	result := 0
	if status != 0 {
		result = 1
	}
	c.expect(fmt.Sprintf("msg_type=13&operation=%d&result=%d&message=%d", operation, result, status))
	if got := c.chunk(); got != "" {
		c.t.Fatalf("chunk %q behind END_OP", got)
	}
	if b, err := io.ReadAll(c.br); err != nil || len(b) > 0 {
		c.t.Fatalf("behind the terminal chunk: %q, %v; want the end", b, err)
	}
}

func (c *rawClient) open(method, path string) {
	c.t.Helper()
	c.write(method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1:58181\r\nTransfer-Encoding: chunked\r\n\r\n")
	head := strings.Join(c.head(), "\n") + "\n"
	if !strings.HasPrefix(head, "HTTP/1.1 200 OK\n") || strings.Count(head, "Transfer-Encoding: chunked\n") != 1 ||
		!strings.Contains(head, "Connection: close\n") {
		c.t.Fatalf("response head:\n%s", head)
	}
}

// askAll asks everything once and checks the answers.
func askAll(ctx context.Context, s *wire.Session) int {
	a, err := s.Login(ctx, loginForm)
	if err != nil || string(a["UID"].Bytes()) != "j.doe" || string(a["PASSWORD"].Bytes()) != "p w&1" {
		return 14
	}
	r, err := s.Transmit(ctx, []byte{0x80, 0xCA, 0x9F, 0x7F, 0x2D})
	if err != nil || !bytes.Equal(r, []byte{'j', 0x6A, 0x82}) {
		return 8
	}
	if err := s.Progress(ctx, 15, "PROGRESS_KEY_GENERATION"); err != nil {
		return 1
	}
	pin, err := s.NewPIN(ctx, 4, 10)
	if err != nil || string(pin.Bytes()) != "48%2915" {
		return 4
	}
	return 0
}

// The dialects of Dogtag's clients, byte for byte.
func TestConversationBytes(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, askAll)
	const extendedForm = "msg_type=16&invalid_pw=0&blocked=0&title=Corporate+login&description=Use+your+directory+account.&required_parameter0=id%3DUID%26name%3DLogin+name%26desc%3DDirectory+login%26type%3Dstring%26option%3D&required_parameter1=id%3DPASSWORD%26name%3DPassword%26desc%3DDirectory+password%26type%3Dpassword%26option%3D"

	t.Run("client=esc", func(t *testing.T) {
		c := dialRaw(t, s)
		// The head arrives before the first message was sent (§1.2).
		c.write("GET /nk_service HTTP/1.1\r\nTransfer-Encoding: chunked\r\nhost: 127.0.0.1:58181\r\nContent-Type: text/plain\r\n\r\n")
		c.head()
		c.send("msg_type=2&operation=5&extensions=tokenType%3DuserKey%26clientVersion%3DESC+1%2E0%2E1%26statusUpdate%3Dtrue%26extendedLoginRequest%3Dtrue%26")
		c.expect(extendedForm)
		c.send("msg_type=17&UID=j%2Edoe&PASSWORD=p+w%261")
		c.expect("msg_type=9&pdu_size=5&pdu_data=%80%CA%9F%7F%2D")
		c.send("msg_type=10&pdu_size=3&pdu_data=jj%82")
		c.expect("msg_type=14&current_state=15&next_task_name=PROGRESS_KEY_GENERATION")
		c.send("msg_type=15&current_state=15")
		c.expect("msg_type=11&minimum_length=4&maximum_length=10")
		c.send("msg_type=12&new_pin=48%2915")
		c.expectEnd(5, 0)
	})
	t.Run("client=tpsclient", func(t *testing.T) {
		c := dialRaw(t, s)
		c.open("POST", "/tps/tps")
		c.send("msg_type=2&operation=1") // no status updates, simple login
		c.expect("msg_type=3&invalid_pw=0&blocked=0")
		c.send("msg_type=4&screen_name=j.doe&password=p w%261")
		c.expect("msg_type=9&pdu_size=5&pdu_data=%80%CA%9F%7F%2D")
		c.send("msg_type=10&pdu_data=jj%82&pdu_size=3")
		c.expect("msg_type=11&minimum_length=4&maximum_length=10")
		c.send("msg_type=12&new_pin=48%2915")
		c.expectEnd(1, 0)
	})
	t.Run("client=tpsclient extended", func(t *testing.T) {
		c := dialRaw(t, s)
		c.open("POST", "/nk_service")
		c.send("msg_type=2&operation=1&extensions=statusUpdate%3Dfalse%%26extendedLoginRequest%3Dtrue")
		c.expect(extendedForm)
		c.send("msg_type=17&screen_name=j.doe&password=p+w%261")
		c.expect("msg_type=9&pdu_size=5&pdu_data=%80%CA%9F%7F%2D")
		c.send("msg_type=10&pdu_data=jj%82&pdu_size=3")
		c.expect("msg_type=11&minimum_length=4&maximum_length=10")
		c.send("msg_type=12&new_pin=48%2915")
		c.expectEnd(1, 0)
	})
	t.Run("client=dribbling", func(t *testing.T) {
		c := dialRaw(t, s)
		c.open("POST", "/tps/tps")
		dribble := func(body string) {
			for _, b := range []byte(fmt.Sprintf("s=%d&%s", len(body), body)) {
				c.write(fmt.Sprintf("1;x=y\r\n%c\r\n", b)) // one chunk per byte
			}
		}
		dribble("msg_type=2&operation=3")
		c.chunk()
		dribble("msg_type=4&screen_name=j.doe&password=p w%261")
		c.chunk()
		dribble("msg_type=10&pdu_data=jj%82&pdu_size=3")
		c.chunk()
		dribble("msg_type=12&new_pin=48%2915")
		c.expectEnd(3, 0)
	})
	t.Run("client=extendedLoginRequest false", func(t *testing.T) {
		c := dialRaw(t, s)
		c.open("POST", "/tps/tps")
		c.send("msg_type=2&operation=1&extensions=extendedLoginRequest%3Dfalse")
		c.expect("msg_type=3&invalid_pw=0&blocked=0")
		c.send("msg_type=4&screen_name=x&password=")
		c.expectEnd(1, 14)
	})
}

func TestDEF01UnknownOperations(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(_ context.Context, s *wire.Session) int {
		if op := s.Begin().Operation; op == wire.Unblock || op == wire.Renew {
			return 8
		}
		t.Errorf("run called for %v", s.Begin().Operation)
		return 0
	})
	for _, c := range []struct {
		begin      string
		op, status int
	}{
		{"msg_type=2&operation=0", 0, 8},
		{"msg_type=2", 0, 8},
		{"msg_type=2&operation=-1", -1, 8},
		{"msg_type=2&operation=7", 7, 8},
		{"msg_type=2&operation=2", 2, 8}, // run's own refusal
		{"msg_type=2&operation=4", 4, 8},
		{"msg_type=2&operation=abc", 0, 1},
		{"msg_type=15&current_state=1", 0, 1},
		{"msg_type=99", 0, 1},
		{"msg_type=2&operation=1&x=" + strings.Repeat("y", 9999), 0, 1},
	} {
		t.Run("begin="+c.begin[:min(len(c.begin), 30)], func(t *testing.T) {
			rc := dialRaw(t, s)
			rc.open("POST", "/tps/tps")
			rc.send(c.begin)
			rc.expectEnd(c.op, c.status)
		})
	}
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(context.Context, *wire.Session) int { t.Error("run called"); return 0 })
	for _, c := range []struct{ name, request, status string }{
		{"PUT", "PUT /tps/tps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 405 Method Not Allowed"},
		{"DELETE", "DELETE /nk_service HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"},
		{"not chunked", "POST /tps/tps HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\nmsg_type=2&operation=1", "HTTP/1.1 400 Bad Request"},
		{"short body", "POST /tps/tps HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nmsg_", "HTTP/1.1 400 Bad Request"},
		{"no body", "GET /tps/tps HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad Request"},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			rc := dialRaw(t, s)
			start := time.Now()
			rc.write(c.request)
			head := rc.head()
			if head[0] != c.status {
				t.Errorf("status line %q, want %q", head[0], c.status)
			}
			text := strings.Join(head, "\n") + "\n"
			if !strings.Contains(text, "Connection: close\n") || !strings.Contains(text, "Content-Length: 0\n") {
				t.Errorf("head:\n%s", text)
			}
			if b, err := io.ReadAll(rc.br); err != nil || len(b) > 0 {
				t.Errorf("behind the head: %q, %v; want the end", b, err)
			}
			if d := time.Since(start); d > 30*time.Second {
				t.Errorf("the connection was closed after %v", d)
			}
		})
	}
}

func TestHTTP2Refused(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(context.Context, *wire.Session) int { t.Error("run called"); return 0 })
	resp, err := s.Client().Post(s.URL+"/tps/tps", "text/plain", strings.NewReader("s=22&msg_type=2&operation=1"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusHTTPVersionNotSupported {
		t.Errorf("%s %s, want 505 over HTTP/2", resp.Proto, resp.Status)
	}
}

func TestTooManySessions(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{MaxSessions: 1}, askAll)
	first := dialRaw(t, s)
	first.open("POST", "/tps/tps")
	second := dialRaw(t, s)
	second.write("POST /tps/tps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	if head := second.head(); head[0] != "HTTP/1.1 503 Service Unavailable" {
		t.Errorf("second conversation: %q", head[0])
	}
	first.send("msg_type=2&operation=9")
	first.expectEnd(9, 8)
}

// transmitOnce sends one APDU and returns a status by the kind of error.
func transmitOnce(errs chan<- error) runFunc {
	return func(ctx context.Context, s *wire.Session) int {
		_, err := s.Transmit(ctx, []byte{0, 0xA4, 4, 0})
		if err == nil {
			_, err = s.Transmit(ctx, []byte{0, 0xA4, 4, 0})
		}
		_, again := s.Transmit(ctx, []byte{0, 0xA4, 4, 1})
		if err != nil && !errors.Is(again, wire.ErrClientGone) {
			err = fmt.Errorf("the session went on after an error: %w, %w", err, again)
		}
		if errs != nil {
			errs <- err
		}
		if err != nil {
			return 28
		}
		return 0
	}
}

func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer string
		protocol     bool
	}{
		{"another message", "msg_type=15&current_state=1", true},
		{"size differs", "msg_type=10&pdu_size=3&pdu_data=%90%00", true},
		{"one byte", "msg_type=10&pdu_size=1&pdu_data=%90", true},
		{"empty", "msg_type=10&pdu_size=0&pdu_data=", true},
		{"unknown", "msg_type=1234", true},
		{"too long", "msg_type=10&pdu_size=4000&pdu_data=" + strings.Repeat("%90", 4000), true},
		{"begin again", "msg_type=2&operation=1", true},
		{"end from the client", "msg_type=13&operation=1&result=0&message=0", true},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			errs := make(chan error, 1)
			s := serve(t, wire.Config{}, transmitOnce(errs))
			rc := dialRaw(t, s)
			rc.open("POST", "/tps/tps")
			rc.send("msg_type=2&operation=5")
			rc.chunk()
			rc.send(c.answer)
			rc.expectEnd(5, 28)
			if err := <-errs; !errors.Is(err, wire.ErrClientGone) || errors.Is(err, wire.ErrProtocol) != c.protocol {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestUnaskedMessage(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 1)
	s := serve(t, wire.Config{}, transmitOnce(errs))
	rc := dialRaw(t, s)
	rc.open("POST", "/tps/tps")
	rc.send("msg_type=2&operation=5")
	rc.chunk()
	const pdu = "s=38&msg_type=10&pdu_data=%90%00&pdu_size=2"
	two := pdu + pdu
	rc.write(fmt.Sprintf("%x\r\n%s\r\n", len(two), two))
	// Whether the second message comes before or after the next question, it is
	// never more than one answer.
	var last string
	for {
		b := rc.chunk()
		if b == "" {
			break
		}
		last = b
	}
	if err := <-errs; err != nil && !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(last, "msg_type=13&") {
		t.Errorf("last message %q, want END_OP", last)
	}
}

func TestClientVanishes(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"FIN", "terminal chunk", "cut in a message"} {
		t.Run("how="+how, func(t *testing.T) {
			t.Parallel()
			errs := make(chan error, 1)
			cause := make(chan error, 1)
			s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
				status := transmitOnce(errs)(ctx, s)
				<-ctx.Done() // would hang if the client's end were not noticed
				cause <- context.Cause(ctx)
				return status
			})
			rc := dialRaw(t, s)
			rc.open("POST", "/tps/tps")
			rc.send("msg_type=2&operation=5")
			rc.chunk()
			switch how {
			case "FIN":
				rc.conn.Close()
			case "terminal chunk":
				rc.write("0\r\n\r\n")
				rc.expectEnd(5, 28)
			default:
				rc.write("10\r\ns=38&msg_t")
				rc.conn.Close()
			}
			if err := <-errs; !errors.Is(err, wire.ErrClientGone) || errors.Is(err, wire.ErrProtocol) {
				t.Errorf("error %v", err)
			}
			if err := <-cause; !errors.Is(err, wire.ErrClientGone) {
				t.Errorf("cause %v", err)
			}
		})
	}
}

// A client that goes while the server is busy elsewhere ends the context.
func TestClientVanishesWhileServerWorks(t *testing.T) {
	t.Parallel()
	cause := make(chan error, 1)
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		s.Transmit(ctx, []byte{0, 0xA4, 4, 0})
		select {
		case <-ctx.Done():
			cause <- context.Cause(ctx)
		case <-time.After(time.Minute):
			cause <- nil
		}
		return 1
	})
	rc := dialRaw(t, s)
	rc.open("POST", "/tps/tps")
	rc.send("msg_type=2&operation=5")
	rc.chunk()
	rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
	rc.conn.Close()
	if err := <-cause; !errors.Is(err, wire.ErrClientGone) {
		t.Errorf("cause %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	const short = 150 * time.Millisecond
	cfg := wire.Config{BeginTimeout: short, CardTimeout: short, PersonTimeout: 4 * short, Linger: short}
	waits := func(ask func(ctx context.Context, s *wire.Session) error) runFunc {
		return func(ctx context.Context, s *wire.Session) int {
			if err := ask(ctx, s); errors.Is(err, wire.ErrClientGone) {
				return 28
			}
			return 0
		}
	}
	for _, c := range []struct {
		name string
		run  runFunc
		min  time.Duration
	}{
		{"begin", nil, short},
		{"card", waits(func(ctx context.Context, s *wire.Session) error {
			_, err := s.Transmit(ctx, make([]byte, 5))
			return err
		}), short},
		{"login", waits(func(ctx context.Context, s *wire.Session) error { _, err := s.Login(ctx, loginForm); return err }), 4 * short},
		{"pin", waits(func(ctx context.Context, s *wire.Session) error { _, err := s.NewPIN(ctx, 4, 8); return err }), 4 * short},
		{"progress", waits(func(ctx context.Context, s *wire.Session) error { return s.Progress(ctx, 1, "X") }), short},
	} {
		t.Run("waiting="+c.name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			if c.run != nil {
				cfg.BeginTimeout = time.Minute
			}
			s := serve(t, cfg, c.run)
			rc := dialRaw(t, s)
			start := time.Now() // before the server can start its clock
			rc.open("POST", "/tps/tps")
			op := 0
			if c.run != nil {
				rc.send("msg_type=2&operation=1&extensions=statusUpdate%3Dtrue")
				rc.chunk()
				op = 1
			} else {
				rc.write("1b\r\ns=22&msg_type=2&op") // never finished
			}
			rc.expectEnd(op, 28)
			if d := time.Since(start); d < c.min || d > c.min+time.Minute {
				t.Errorf("ended after %v, want %v", d, c.min)
			}
		})
	}
}

// The handler lifts a server-wide ReadTimeout and WriteTimeout (2 s here).
func TestOutlivesServerTimeouts(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, transmitOnce(nil))
	rc := dialRaw(t, s)
	rc.open("POST", "/tps/tps")
	rc.send("msg_type=2&operation=5")
	for range 2 {
		rc.chunk()
		time.Sleep(1300 * time.Millisecond)
		rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
	}
	rc.chunk()
	rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
	rc.expectEnd(5, 0)
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	// A card's answer is awaited, the next command not sent.
	t.Run("waiting=card", func(t *testing.T) {
		t.Parallel()
		errs := make(chan error, 1)
		s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
			if _, err := s.Transmit(ctx, []byte{0, 0xA4, 4, 0}); err != nil {
				t.Errorf("first command: %v", err)
			}
			_, err := s.Transmit(ctx, []byte{0, 0xA4, 4, 0})
			errs <- err
			// Behind a point of no return the operation may go on.
			if _, err := s.Transmit(context.WithoutCancel(ctx), []byte{0, 0xB0, 0, 0}); err != nil {
				t.Errorf("command without cancel: %v", err)
			}
			return 1
		})
		rc := dialRaw(t, s)
		rc.open("POST", "/tps/tps")
		rc.send("msg_type=2&operation=1")
		rc.chunk()
		down := shutdown(t, s)
		rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
		rc.expect("msg_type=9&pdu_size=4&pdu_data=%00%B0%00%00")
		rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
		rc.expectEnd(1, 1)
		if err := <-errs; !errors.Is(err, wire.ErrShutdown) || !errors.Is(err, context.Canceled) || errors.Is(err, wire.ErrClientGone) {
			t.Errorf("error %v", err)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
	// A person is not waited for.
	t.Run("waiting=person", func(t *testing.T) {
		t.Parallel()
		s := serve(t, wire.Config{Linger: 100 * time.Millisecond}, func(ctx context.Context, s *wire.Session) int {
			_, err := s.Login(ctx, auth.Form{})
			if !errors.Is(err, wire.ErrShutdown) {
				t.Errorf("error %v", err)
			}
			return 1
		})
		rc := dialRaw(t, s)
		rc.open("POST", "/tps/tps")
		rc.send("msg_type=2&operation=1")
		rc.chunk()
		down := shutdown(t, s)
		rc.expectEnd(1, 1)
		if err := <-down; err != nil {
			t.Error(err)
		}
		// Afterwards nothing is begun.
		late := dialRaw(t, s)
		late.open("POST", "/tps/tps")
		late.send("msg_type=2&operation=1")
		late.expectEnd(1, 1)
	})
	// A client that has not said what it wants does not hold the server up.
	t.Run("waiting=begin", func(t *testing.T) {
		t.Parallel()
		s := serve(t, wire.Config{Linger: 50 * time.Millisecond}, func(context.Context, *wire.Session) int { t.Error("run called"); return 0 })
		rc := dialRaw(t, s)
		rc.open("POST", "/tps/tps")
		down := shutdown(t, s)
		rc.expectEnd(0, 28)
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
	t.Run("waiting=nobody", func(t *testing.T) {
		t.Parallel()
		h := wire.NewHandler(func(context.Context, *wire.Session) int { return 0 }, wire.Config{})
		for range 2 {
			if err := h.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("patience=ends", func(t *testing.T) {
		t.Parallel()
		running, release := make(chan struct{}), make(chan struct{})
		s := serve(t, wire.Config{}, func(context.Context, *wire.Session) int {
			close(running)
			<-release
			return 0
		})
		rc := dialRaw(t, s)
		rc.open("POST", "/tps/tps")
		rc.send("msg_type=2&operation=1")
		<-running
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.handler.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		close(release)
		rc.expectEnd(1, 0)
	})
}

// shutdown begins to stop the server and returns when new operations are refused.
func shutdown(t *testing.T, s *server) <-chan error {
	down := make(chan error, 1)
	go func() { down <- s.handler.Shutdown(context.WithoutCancel(t.Context())) }()
	for end := time.Now().Add(time.Minute); !s.handler.Refuses(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server goes on")
		}
	}
	return down
}

func TestDEF02EndOfOperationAlways(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		a, err := s.Login(ctx, loginForm)
		if err != nil {
			t.Error(err)
		}
		if s.Begin().Operation == wire.Format {
			var none []int
			_ = none[len(a)]
		}
		panic("password " + string(a["PASSWORD"].Bytes()))
	})
	for _, op := range []int{1, 5} {
		rc := dialRaw(t, s)
		rc.open("POST", "/tps/tps")
		rc.send(fmt.Sprintf("msg_type=2&operation=%d", op))
		rc.chunk()
		rc.send("msg_type=4&screen_name=u&password=correcthorse")
		rc.expectEnd(op, 1)
	}
	log := s.log.String()
	assertNoSecrets(t, log)
	if !strings.Contains(log, "index out of range") || !strings.Contains(log, "handler_test.go") {
		t.Errorf("the panics are not in the log: %s", log)
	}
}

func TestTwoOperationsAtOnce(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		both.Done()
		both.Wait() // each needs the other to be there
		for i := range 50 {
			cmd := []byte{0, 0xB0, byte(s.Begin().Operation), byte(i)}
			r, err := s.Transmit(ctx, cmd)
			if err != nil || !bytes.Equal(r, append(cmd, 0x90, 0)) {
				t.Errorf("answer %X, %v", r, err)
				return 1
			}
		}
		return 0
	})
	var wg sync.WaitGroup
	for _, op := range []wire.Operation{wire.Format, wire.Enroll} {
		wg.Go(func() {
			card := &fakeCard{answer: func(_ int, cmd []byte) ([]byte, error) { return append(bytes.Clone(cmd), 0x90, 0), nil }}
			if _, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: op}, card, &person{}); err != nil {
				t.Errorf("%v: %v", op, err)
			}
		})
	}
	wg.Wait()
}

func TestLoginMapping(t *testing.T) {
	t.Parallel()
	form := auth.Form{Invalid: true, Fields: []auth.Field{{ID: "UID"}, {ID: "PASSWORD", Secret: true}, {ID: "OTP", Secret: true}}}
	got := make(chan string, 1)
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		a, err := s.Login(ctx, form)
		if err != nil {
			return 14
		}
		text := ""
		for _, id := range []string{"UID", "PASSWORD", "OTP", "EXTRA"} {
			if v, ok := a[id]; ok {
				text += fmt.Sprintf("%s=%s ", id, v.Bytes())
			}
		}
		got <- text
		return 0
	})
	for _, c := range []struct{ name, begin, question, answer, want string }{
		{"all ids", "&extensions=extendedLoginRequest%3Dtrue", "msg_type=16&invalid_pw=1&blocked=0", "msg_type=17&UID=a&PASSWORD=b&OTP=c&EXTRA=d", "UID=a PASSWORD=b OTP=c "},
		{"aliases", "&extensions=extendedLoginRequest%3Dtrue", "msg_type=16&invalid_pw=1&blocked=0", "msg_type=17&screen_name=a&password=b", "UID=a PASSWORD=b "},
		{"missing", "&extensions=extendedLoginRequest%3Dtrue", "msg_type=16&invalid_pw=1&blocked=0", "msg_type=17&UID=a", "UID=a "},
		{"simple", "", "msg_type=3&invalid_pw=1&blocked=0", "msg_type=4&screen_name=a&password=b", "UID=a PASSWORD=b "},
		{"simple with extended names", "", "msg_type=3&invalid_pw=1&blocked=0", "msg_type=4&UID=a&PASSWORD=b", "UID=a PASSWORD=b "},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			rc := dialRaw(t, s)
			rc.open("POST", "/tps/tps")
			rc.send("msg_type=2&operation=1" + c.begin)
			if q := rc.chunk(); !strings.Contains(q, c.question) {
				t.Errorf("question %q", q)
			}
			rc.send(c.answer)
			rc.expectEnd(1, 0)
			if text := <-got; text != c.want {
				t.Errorf("answers %q, want %q", text, c.want)
			}
		})
	}
}

// A PIN that cannot be is asked for again, in the same conversation.
func TestPINAskedAgain(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		if _, err := s.NewPIN(ctx, 4, 8); !errors.Is(err, wire.ErrPIN) || errors.Is(err, wire.ErrClientGone) {
			t.Errorf("error %v", err)
			return 1
		}
		if pin, err := s.NewPIN(ctx, 4, 8); err != nil || string(pin.Bytes()) != "1234" {
			return 4
		}
		return 0
	})
	rc := dialRaw(t, s)
	rc.open("POST", "/tps/tps")
	rc.send("msg_type=2&operation=3")
	rc.chunk()
	rc.send("msg_type=12&new_pin=")
	rc.expect("msg_type=11&minimum_length=4&maximum_length=8")
	rc.send("msg_type=12&new_pin=1234")
	rc.expectEnd(3, 0)
}

func TestOversizeCommandIsRefusedBeforeSending(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		if _, err := s.Transmit(ctx, make([]byte, 1400)); err == nil || errors.Is(err, wire.ErrClientGone) {
			t.Errorf("error %v", err)
		}
		if _, err := s.Transmit(ctx, make([]byte, 1300)); err != nil {
			t.Errorf("1300 bytes: %v", err)
		}
		return 0
	})
	card := &fakeCard{}
	if _, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format}, card, &person{}); err != nil {
		t.Fatal(err)
	}
	if cmds := card.commands(); len(cmds) != 1 || len(cmds[0]) != 1300 {
		t.Errorf("%d commands", len(cmds))
	}
}

// TestOversizeFormIsRefusedBeforeSending: tpsclient's buffer breaks at 2046 bytes,
// which only a login form reaches; a short APDU stays far below.
func TestOversizeFormIsRefusedBeforeSending(t *testing.T) {
	t.Parallel()
	var sent int
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		long := loginForm
		long.Description = strings.Repeat("x", 2000)
		if _, err := s.Login(ctx, long); err == nil || errors.Is(err, wire.ErrClientGone) {
			t.Errorf("error %v", err)
		}
		if _, err := s.Transmit(ctx, make([]byte, 261)); err != nil {
			t.Errorf("the longest short APDU: %v", err)
		}
		return 0
	})
	rc := dialRaw(t, s)
	rc.open("POST", "/tps/tps")
	rc.send("msg_type=2&operation=5&extensions=extendedLoginRequest%3Dtrue")
	sent = len(rc.chunk())
	rc.send("msg_type=10&pdu_data=%90%00&pdu_size=2")
	if sent > 900 {
		t.Errorf("a message of %d bytes for a short APDU", sent)
	}
	rc.expectEnd(5, 0)
}
