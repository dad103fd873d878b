package wire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

const (
	userName = "j.doe"
	password = "p w&1=Grüße%+~correcthorse"
	newPIN   = "48%2+9159"
)

var loginForm = auth.Form{Title: "Corporate login", Description: "Use your directory account.", Fields: []auth.Field{
	{ID: "UID", Name: "Login name", Description: "Directory login"},
	{ID: "PASSWORD", Name: "Password", Description: "Directory password", Secret: true},
}}

// fakeCard answers with answer and records the commands.
type fakeCard struct {
	mu     sync.Mutex
	log    [][]byte
	answer func(n int, cmd []byte) ([]byte, error)
}

func (c *fakeCard) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.mu.Lock()
	n := len(c.log)
	c.log = append(c.log, bytes.Clone(cmd))
	c.mu.Unlock()
	if c.answer == nil {
		return []byte{0x90, 0x00}, nil
	}
	return c.answer(n, cmd)
}

func (c *fakeCard) ATR() apdu.ATR { return apdu.ATR{0x3B, 0xFF, 0x14} }

func (c *fakeCard) commands() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// person is a scripted Prompter.
type person struct {
	login    func(ctx context.Context, f auth.Form) (auth.Answers, error)
	pin      func(ctx context.Context, min, max int) (secret.PIN, error)
	mu       sync.Mutex
	progress []string
}

func (p *person) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	if p.login != nil {
		return p.login(ctx, f)
	}
	return auth.Answers{"UID": secret.New([]byte(userName)), "PASSWORD": secret.New([]byte(password))}, nil
}

func (p *person) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	if p.pin != nil {
		return p.pin(ctx, min, max)
	}
	return secret.NewPIN([]byte(newPIN))
}

func (p *person) Progress(percent int, task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = append(p.progress, fmt.Sprint(percent, " ", task))
}

// logBuffer is a log that several goroutines write.
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

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// server is the server half on loopback TLS.
type server struct {
	*httptest.Server
	handler *wire.Handler
	log     *logBuffer
}

func (s *server) client() *wire.Client {
	return &wire.Client{BaseURL: s.URL, TLS: wire.CertificateTrust(s.Certificate()), Timeout: time.Minute}
}

func (s *server) addr() string { return s.Listener.Addr().String() }

type runFunc = func(ctx context.Context, s *wire.Session) int

func serve(t *testing.T, cfg wire.Config, run runFunc) *server {
	t.Helper()
	log := &logBuffer{}
	cfg.Log = log.logger()
	h := wire.NewHandler(run, cfg)
	mux := http.NewServeMux()
	mux.Handle("/tps/tps", h)
	mux.Handle("/nk_service", h)
	ts := httptest.NewUnstartedServer(mux)
	// Time-outs that would cut a conversation if the handler did not lift them.
	ts.Config.ReadTimeout, ts.Config.WriteTimeout = 2*time.Second, 2*time.Second
	ts.Config.ErrorLog = slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn)
	ts.EnableHTTP2 = true
	ts.StartTLS()
	s := &server{Server: ts, handler: h, log: log}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		ts.CloseClientConnections()
		ts.Close()
		if t.Failed() {
			t.Logf("server log:\n%s", log)
		}
	})
	return s
}

func endStatus(t *testing.T, err error) int {
	t.Helper()
	var e *wire.EndError
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want an EndError", err, err)
	}
	return e.Status
}

func dialTLS(t *testing.T, s *server) net.Conn {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c, err := tls.Dial("tcp", s.addr(), &tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: nil})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func TestWholeOperation(t *testing.T) {
	t.Parallel()
	for _, op := range []wire.Operation{wire.Enroll, wire.KeyChangeover} {
		t.Run("operation="+op.String(), func(t *testing.T) {
			t.Parallel()
			var begin wire.BeginOp
			s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
				begin = s.Begin()
				if err := wholeOperation(ctx, s); err != nil {
					t.Errorf("server: %v", err)
					return 1
				}
				return 0
			})
			card := &fakeCard{answer: func(n int, cmd []byte) ([]byte, error) {
				return append(bytes.Clone(cmd), 0x90, byte(n)), nil
			}}
			p := &person{}
			res, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: op, TokenType: "userKey", Resume: true}, card, p)
			if err != nil {
				t.Fatal(err)
			}
			if res.Operation != op || res.APDUs != 20 || len(card.commands()) != 20 {
				t.Errorf("result %+v with %d commands", res, len(card.commands()))
			}
			want := []string{"10 PROGRESS_PROCESS_PROFILE", "10 PROGRESS_KEY_GENERATION", "100 PROGRESS_DONE_ENROLLMENT"}
			if !slices.Equal(p.progress, want) {
				t.Errorf("progress %q, want %q", p.progress, want)
			}
			for name, v := range map[string]string{"tokenType": "userKey", "tokenATR": "3BFF14", "resume": "true",
				"statusUpdate": "true", "extendedLoginRequest": "true", "keySet": "", "clientVersion": "Inkan"} {
				if got := begin.Extensions.Get(name); got != v {
					t.Errorf("extension %s = %q, want %q", name, got, v)
				}
			}
			assertNoSecrets(t, s.log.String())
		})
	}
}

// wholeOperation uses every method of a Session.
func wholeOperation(ctx context.Context, s *wire.Session) error {
	a, err := s.Login(ctx, loginForm)
	if err != nil {
		return err
	}
	if string(a["UID"].Bytes()) != userName || string(a["PASSWORD"].Bytes()) != password || len(a) != 2 {
		return errors.New("wrong answers")
	}
	for i := range 20 {
		cmd := bytes.Repeat([]byte{0x80, 0xE8, byte(i), '%', '+', '&'}, 1+2*i)
		r, err := s.Transmit(ctx, cmd)
		if err != nil {
			return err
		}
		if want := append(bytes.Clone(cmd), 0x90, byte(i)); !bytes.Equal(r, want) {
			return fmt.Errorf("answer %X, want %X", r, want)
		}
	}
	if err := s.Progress(ctx, 10, "PROGRESS_PROCESS_PROFILE"); err != nil {
		return err
	}
	pin, err := s.NewPIN(ctx, 4, 10)
	if err != nil {
		return err
	}
	if string(pin.Bytes()) != newPIN {
		return errors.New("wrong PIN")
	}
	if err := s.Progress(ctx, 5, "PROGRESS_KEY_GENERATION"); err != nil {
		return err
	}
	return s.Progress(ctx, 1000, "PROGRESS_DONE_ENROLLMENT")
}

func assertNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, s := range []string{"correcthorse", newPIN, "Grüße"} {
		if bytes.Contains([]byte(text), []byte(s)) {
			t.Errorf("the secret %q was printed in: %s", s, text)
		}
	}
}
