package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// terminal is a Prompter that needs nobody.
type terminal struct{}

func (terminal) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{"UID": secret.New([]byte("jdoe")), "PASSWORD": secret.New([]byte("wrong"))}, nil
}

func (terminal) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.PIN{}, errors.New("nobody here")
}

func (terminal) Progress(percent int, task string) { fmt.Printf("%d %% %s\n", percent, task) }

// echo is a card that answers 9000 to everything.
type echo struct{}

func (echo) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x90, 0x00}, nil }

// Both halves in one process: a server operation that talks to a card behind a
// client, and the client that runs it.
func Example() {
	format := func(ctx context.Context, s *wire.Session) (status int) {
		answer, err := s.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x00})
		if err != nil {
			return 28
		}
		fmt.Printf("server: %v, the card says %X\n", s.Begin().Operation, answer)
		s.Progress(ctx, 10, "identify")
		login := auth.Form{Fields: []auth.Field{{ID: "UID"}, {ID: "PASSWORD", Secret: true}}}
		answers, err := s.Login(ctx, login)
		if err != nil {
			return 28
		}
		defer answers.Wipe()
		fmt.Println("server: password", answers["PASSWORD"])
		return 14
	}
	server := httptest.NewTLSServer(wire.NewHandler(format, wire.Config{}))
	defer server.Close()

	client := &wire.Client{BaseURL: server.URL, TLS: wire.CertificateTrust(server.Certificate())}
	_, err := wire.Run(context.Background(), client, wire.Begin{Operation: wire.Format}, echo{}, terminal{})
	fmt.Println(err)
	// Output:
	// server: format, the card says 9000
	// 10 % identify
	// server: password [redacted]
	// format failed (status 14): the login was not accepted; the card was not changed; start again with the right user name and password, or the PIN that the card has; after several wrong ones wait a few minutes
}
