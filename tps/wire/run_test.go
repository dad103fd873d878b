package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// scripted is a server of raw bytes; it serves one connection with script.
func scripted(t *testing.T, script func(c *rawClient)) *wire.Client {
	t.Helper()
	ca := newAuthority(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.server("127.0.0.1")},
		NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var accepted atomic.Int32
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) > 1 {
				t.Error("the client connected again")
			}
			conn.SetDeadline(time.Now().Add(time.Minute))
			func() {
				defer conn.Close()
				script(&rawClient{t, conn, bufio.NewReader(conn)})
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return &wire.Client{BaseURL: "https://" + ln.Addr().String(), TLS: wire.CertificateTrust(ca.cert), Timeout: 5 * time.Second}
}

const responseHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// open reads the client's request head and BEGIN_OP, and answers with head.
func (c *rawClient) accept(head string) {
	lines := c.head()
	text := strings.Join(lines, "\n") + "\n"
	if lines[0] != "POST /tps/tps HTTP/1.1" || !strings.Contains(text, "Transfer-Encoding: chunked\n") ||
		!strings.Contains(text, "Host: "+c.conn.LocalAddr().String()+"\n") {
		c.t.Errorf("request head:\n%s", text)
	}
	if p := c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "" && p != "http/1.1" {
		c.t.Errorf("negotiated %q", p)
	}
	c.chunk()
	c.write(head)
}

// ask sends a message and returns the client's answer.
func (c *rawClient) ask(body string) string {
	c.send(body)
	return c.chunk()
}

func TestRunBytes(t *testing.T) {
	t.Parallel()
	pin := "12%+é"
	got := make(chan []string, 1)
	cl := scripted(t, func(c *rawClient) {
		c.head()
		log := []string{c.chunk()}
		c.write(responseHead)
		for _, q := range []string{
			"msg_type=3&invalid_pw=1&blocked=0",
			"msg_type=16&invalid_pw=0&blocked=0&title=T&description=D&required_parameter0=id%3DOTP%26name%3DCode%26desc%3D%26type%3Dpassword%26option%3D&required_parameter1=id%3DUID%26name%3DN%26desc%3D%26type%3Dstring%26option%3D",
			"msg_type=9&pdu_size=5&pdu_data=%80%CA%9F%7F%2D",
			"msg_type=9&pdu_data=%00+Aa&pdu_size=4", // literal bytes too
			"msg_type=14&current_state=15&next_task_name=PROGRESS_KEY_GENERATION",
			"msg_type=11&minimum_length=4&maximum_length=10",
		} {
			log = append(log, c.ask(q))
		}
		c.send("msg_type=13&operation=1&result=0&message=0")
		log = append(log, c.chunk()) // the terminal chunk (§15)
		c.write("0\r\n\r\n")
		got <- log
	})
	card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) {
		if n == 0 {
			return []byte{0x6C, 0x2D}, nil // not resolved here
		}
		return bytes.Repeat([]byte{'A', 0x90}, 129), nil // 258 bytes uncut
	}}
	p := &person{
		login: func(_ context.Context, f auth.Form) (auth.Answers, error) {
			if len(f.Fields) == 2 && f.Fields[0].ID == "UID" && !f.Invalid {
				t.Errorf("form %+v", f)
			}
			return auth.Answers{"UID": sec("j.doe"), "PASSWORD": sec("p w&1"), "OTP": sec("00%")}, nil
		},
		pin: func(_ context.Context, min, max int) (secret.PIN, error) {
			if min != 4 || max != 10 {
				t.Errorf("PIN limits %d, %d", min, max)
			}
			return secret.NewPIN([]byte(pin))
		},
	}
	if _, err := wire.Run(t.Context(), cl, wire.Begin{Operation: wire.Enroll, Locale: "fr", KeySet: "defKeySet"}, card, p); err != nil {
		t.Fatal(err)
	}
	want := []string{
		framed("s=0&msg_type=2&operation=1&extensions=keySet%3DdefKeySet%26clientVersion%3DInkan%26tokenATR%3D3BFF14%26locale%3Dfr%26statusUpdate%3Dtrue%26extendedLoginRequest%3Dtrue"),
		"s=47&msg_type=4&screen_name=j%2Edoe&password=p+w%261",
		framed("s=0&msg_type=17&OTP=00%25&UID=j%2Edoe"),
		"s=38&msg_type=10&pdu_size=2&pdu_data=%6C%2D",
		framed("s=0&msg_type=10&pdu_size=258&pdu_data=" + strings.Repeat("%41%90", 129)),
		"s=28&msg_type=15&current_state=15",
		framed("s=0&msg_type=12&new_pin=" + pin),
		"",
	}
	log := <-got
	for i := range want {
		if i >= len(log) || log[i] != want[i] {
			t.Errorf("message %d:\ngot  %q\nwant %q", i, log[min(i, len(log)-1)], want[i])
		}
	}
	if cmds := card.commands(); len(cmds) != 2 || !bytes.Equal(cmds[1], []byte{0, ' ', 'A', 'a'}) {
		t.Errorf("commands %X", cmds)
	}
}

func TestGetResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		command []byte
		answers []string // hex-less: raw bytes
		want    string
		sent    []string
	}{
		{"once", []byte{0x84, 0xF2, 0, 0}, []string{"ab\x61\x02", "cd\x90\x00"}, "abcd\x90\x00", []string{"\x00\xC0\x00\x00\x02"}},
		{"twice", []byte{0, 0xA4, 4, 0}, []string{"\x61\x00", "ab\x61\x10", "cd\x62\x83"}, "abcd\x62\x83", []string{"\x00\xC0\x00\x00\x00", "\x00\xC0\x00\x00\x10"}},
		{"channel 1", []byte{0x81, 0xF2, 0, 0}, []string{"\x61\x02", "cd\x90\x00"}, "cd\x90\x00", []string{"\x01\xC0\x00\x00\x02"}},
		{"channel 5", []byte{0x41, 0xF2, 0, 0}, []string{"\x61\x02", "\x6A\x82"}, "\x6A\x82", []string{"\x41\xC0\x00\x00\x02"}},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
				r, err := s.Transmit(ctx, c.command)
				if err != nil || string(r) != c.want {
					t.Errorf("answer %q, %v, want %q", r, err, c.want)
				}
				return 0
			})
			card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) { return []byte(c.answers[n]), nil }}
			res, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format}, card, &person{})
			if err != nil || res.APDUs != 1 {
				t.Errorf("%+v, %v", res, err)
			}
			if cmds := card.commands(); len(cmds) != 1+len(c.sent) || !slices.EqualFunc(cmds[1:], c.sent, func(a []byte, b string) bool { return string(a) == b }) {
				t.Errorf("commands %X", cmds)
			}
		})
	}
}

var errRefused = errors.New("reader broken")

func TestCardFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer []byte
		err    error
	}{
		{"removed", nil, fmt.Errorf("transmitting: %w", apdu.ErrCardRemoved)},
		{"reader", nil, errRefused},
		{"empty", []byte{}, nil},
		{"one byte", []byte{0x90}, nil},
		{"promises for ever", []byte{0x61, 0x10}, nil},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			freed := false
			s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
				if _, err := s.Transmit(ctx, []byte{0, 1, 2, 3}); !errors.Is(err, wire.ErrClientGone) {
					t.Errorf("server: %v", err)
				}
				time.Sleep(100 * time.Millisecond)
				freed = true
				return 28
			})
			card := &fakeCard{answer: func(int, []byte) ([]byte, error) { return c.answer, c.err }}
			_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format}, card, &person{})
			if endStatus(t, err) != 8 || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("error %v", err)
			}
			if errors.Is(c.err, apdu.ErrCardRemoved) != errors.Is(err, apdu.ErrCardRemoved) {
				t.Errorf("error %v", err)
			}
			// Run returned behind the server's END_OP: the card is free again.
			if !freed {
				t.Error("Run returned before the server had finished")
			}
		})
	}
}

// Any end of the stream without END_OP is status 28, and no APDU is sent twice.
func TestStreamEndsEarly(t *testing.T) {
	t.Parallel()
	both := make(chan struct{})
	const pdu = "msg_type=9&pdu_size=4&pdu_data=%00%01%02%03"
	for _, c := range []struct {
		name   string
		script func(c *rawClient)
		apdus  int
		status int
	}{
		{"FIN behind the head", func(c *rawClient) { c.accept(responseHead) }, 0, 28},
		{"terminal chunk at once", func(c *rawClient) { c.accept(responseHead + "0\r\n\r\n") }, 0, 28},
		{"FIN in mid-operation", func(c *rawClient) { c.accept(responseHead); c.ask(pdu) }, 1, 28},
		{"terminal chunk in mid-operation", func(c *rawClient) {
			c.accept(responseHead)
			c.ask(pdu)
			c.write("0\r\n\r\n")
			io.Copy(io.Discard, c.br)
		}, 1, 28},
		{"RST", func(c *rawClient) {
			c.accept(responseHead)
			c.ask(pdu)
			c.conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			c.conn.(*tls.Conn).NetConn().Close()
		}, 1, 28},
		{"half a message", func(c *rawClient) { c.accept(responseHead); c.ask(pdu); c.write("8\r\ns=42&msg\r\n0\r\n\r\n") }, 1, 28},
		{"half a chunk", func(c *rawClient) { c.accept(responseHead); c.ask(pdu); c.write("2e\r\ns=42&msg") }, 1, 28},
		{"silence", func(c *rawClient) { c.accept(responseHead); c.ask(pdu); io.Copy(io.Discard, c.br) }, 1, 28},
		{"not the protocol", func(c *rawClient) { c.accept(responseHead + "6\r\nhello!\r\n"); io.Copy(io.Discard, c.br) }, 0, 28},
		{"unknown message", func(c *rawClient) {
			c.accept(responseHead)
			c.send("msg_type=7&question=colour")
			io.Copy(io.Discard, c.br)
		}, 0, 28},
		{"client's message", func(c *rawClient) {
			c.accept(responseHead)
			c.send("msg_type=2&operation=1")
			io.Copy(io.Discard, c.br)
		}, 0, 28},
		{"malformed PDU", func(c *rawClient) {
			c.accept(responseHead)
			c.send("msg_type=9&pdu_size=4&pdu_data=%00%01")
			io.Copy(io.Discard, c.br)
		}, 0, 28},
		{"two at once", func(c *rawClient) {
			c.accept(responseHead)
			c.send(pdu)
			c.send(pdu)
			close(both)
			io.Copy(io.Discard, c.br)
		}, 1, 28},
		{"FIN before the head", func(c *rawClient) { c.head(); c.chunk() }, 0, 47},
		{"500", func(c *rawClient) {
			c.accept("HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n")
			io.Copy(io.Discard, c.br)
		}, 0, 47},
		{"redirect", func(c *rawClient) {
			c.accept("HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
		}, 0, 47},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			cl := scripted(t, c.script)
			cl.Timeout = time.Second
			card := &fakeCard{}
			if c.name == "two at once" { // let both arrive
				card.answer = func(int, []byte) ([]byte, error) {
					<-both
					time.Sleep(200 * time.Millisecond)
					return []byte{0x90, 0}, nil
				}
			}
			res, err := wire.Run(t.Context(), cl, wire.Begin{Operation: wire.Enroll}, card, &person{})
			if endStatus(t, err) != c.status {
				t.Errorf("error %v, want status %d", err, c.status)
			}
			if n := len(card.commands()); n != c.apdus || res.APDUs != n {
				t.Errorf("%d APDUs on the card, result %+v, want %d", n, res, c.apdus)
			}
		})
	}
}

func TestServerRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int { return 26 })
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Renew}, &fakeCard{}, &person{})
	var e *wire.EndError
	if !errors.As(err, &e) || e.Status != 26 || e.Err != nil || e.Operation != wire.Renew {
		t.Fatalf("error %v", err)
	}
	for _, part := range []string{"renew", "26", "does not allow", "not changed", "agent"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestUnusablePINIsNotSent(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		if _, err := s.NewPIN(ctx, 4, 8); !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("server: %v", err)
		}
		return 28
	})
	p := &person{pin: func(context.Context, int, int) (secret.PIN, error) { return secret.NewPIN([]byte("77&123")) }}
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.ResetPIN}, &fakeCard{}, p)
	if endStatus(t, err) != 4 || !errors.Is(err, wire.ErrPIN) || strings.Contains(err.Error(), "77") {
		t.Errorf("error %v", err)
	}
}

func TestPersonCancels(t *testing.T) {
	t.Parallel()
	no := errors.New("no, thank you")
	s := serve(t, wire.Config{}, askAll)
	p := &person{login: func(context.Context, auth.Form) (auth.Answers, error) { return nil, no }}
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Enroll}, &fakeCard{}, p)
	if endStatus(t, err) != 14 || !errors.Is(err, no) || !strings.Contains(err.Error(), "the card was not changed") {
		t.Errorf("error %v", err)
	}
	s = serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		_, err := s.NewPIN(ctx, 4, 8)
		if !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("server: %v", err)
		}
		return 28
	})
	p = &person{pin: func(context.Context, int, int) (secret.PIN, error) { return secret.PIN{}, no }}
	_, err = wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Enroll}, &fakeCard{}, p)
	if endStatus(t, err) != 4 || !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
}

// Cancelling lets the running command finish and sends no further one.
func TestRunCancelled(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		for {
			if _, err := s.Transmit(ctx, []byte{0, 1, 2, 3}); err != nil {
				return 28
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) {
		if n == 3 {
			cancel()
		}
		return []byte{0x90, 0}, nil
	}}
	_, err := wire.Run(ctx, s.client(), wire.Begin{Operation: wire.Enroll}, card, &person{})
	if endStatus(t, err) != 8 || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := len(card.commands()); n < 4 || n > 5 {
		t.Errorf("%d commands", n)
	}
	if _, err := wire.Run(ctx, s.client(), wire.Begin{Operation: wire.Enroll}, card, &person{}); !errors.Is(err, context.Canceled) || endStatus(t, err) != 47 {
		t.Errorf("run with an ended context: %v", err)
	}
}

// A person who is being asked is told when the server ends the operation.
func TestServerEndsWhilePersonIsAsked(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{PersonTimeout: 100 * time.Millisecond}, func(ctx context.Context, s *wire.Session) int {
		s.Login(ctx, loginForm)
		return 14
	})
	p := &person{login: func(ctx context.Context, _ auth.Form) (auth.Answers, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Minute):
			return nil, errors.New("nobody told the person")
		}
	}}
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Enroll}, &fakeCard{}, p)
	var e *wire.EndError
	if !errors.As(err, &e) || e.Status != 14 || e.Err != nil {
		t.Errorf("error %v, want the server's status", err)
	}
}

// END_OP counts even when it comes while the card is at work.
func TestServerEndsWhileCardWorks(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{CardTimeout: 50 * time.Millisecond}, func(ctx context.Context, s *wire.Session) int {
		s.Transmit(ctx, []byte{0, 1, 2, 3})
		return 9
	})
	card := &fakeCard{answer: func(int, []byte) ([]byte, error) { time.Sleep(500 * time.Millisecond); return []byte{0x90, 0}, nil }}
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Enroll}, card, &person{})
	if endStatus(t, err) != 9 {
		t.Errorf("error %v, want the server's status", err)
	}
}

func TestClientRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cl   wire.Client
	}{
		{"plain http", wire.Client{BaseURL: "http://127.0.0.1:1"}},
		{"no scheme", wire.Client{BaseURL: "127.0.0.1:1"}},
		{"password in the address", wire.Client{BaseURL: "https://u:p@127.0.0.1:1"}},
		{"query", wire.Client{BaseURL: "https://127.0.0.1:1/?x=y"}},
		{"no verification", wire.Client{BaseURL: "https://127.0.0.1:1", TLS: &tls.Config{InsecureSkipVerify: true}}},
		{"nobody there", wire.Client{BaseURL: "https://127.0.0.1:1"}},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			_, err := wire.Run(t.Context(), &c.cl, wire.Begin{Operation: wire.Format}, &fakeCard{}, &person{})
			if endStatus(t, err) != 47 || strings.Contains(err.Error(), "u:p") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A server that nobody vouches for gets nothing: not even a request.
func TestUntrustedServerGetsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(context.Context, *wire.Session) int { t.Error("run called"); return 0 })
	for name, trust := range map[string]*tls.Config{"system": nil, "another CA": wire.CertificateTrust(newAuthority(t).cert)} {
		cl := &wire.Client{BaseURL: s.URL, TLS: trust}
		_, err := wire.Run(t.Context(), cl, wire.Begin{Operation: wire.Format}, &fakeCard{}, &person{})
		var v *tls.CertificateVerificationError
		if endStatus(t, err) != 47 || !errors.As(err, &v) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
