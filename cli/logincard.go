package cli

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/station"
)

// cardFlags are those of a login with a card.
func cardFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "card", Usage: "log in with the certificate on your card, which has to stay in the reader"},
		&cli.StringFlag{Name: "reader", Usage: "`NAME` of the PC/SC reader, or the beginning of it"},
		&cli.StringFlag{Name: "sim", Usage: "image `FILE` of a software card"},
		&cli.StringFlag{Name: "pin-file", Usage: "`FILE` with the PIN, here and in the commands that follow; default: each asks"},
	}
}

// sessionCard is the card that a session began with: its tokens are good over
// connections that show its certificate.
type sessionCard struct {
	Reader  string `json:"reader,omitempty"`
	Sim     string `json:"sim,omitempty"`
	PINFile string `json:"pin_file,omitempty"` // name, not content
}

// cardOf is the card of the flags, as commands in other folders find it.
func cardOf(c *cli.Context) (*sessionCard, error) {
	s := &sessionCard{Reader: c.String("reader"), Sim: c.String("sim"), PINFile: c.String("pin-file")}
	for _, file := range []*string{&s.Sim, &s.PINFile} {
		if *file == "" {
			continue
		}
		var err error
		if *file, err = filepath.Abs(*file); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// show has the connections of a session that a card began show its certificate. The PIN
// is asked for when the first is made, and kept until the command ends.
func (p *program) show(ctx context.Context, a *account) error {
	if a.Card == nil {
		return nil
	}
	var pin secret.PIN
	i, err := station.FindIdentity(ctx, station.Source{Reader: a.Card.Reader, Sim: a.Card.Sim}, func(ctx context.Context) (secret.PIN, error) {
		if !pin.IsZero() {
			return pin, nil
		}
		answer, err := p.secretFrom(ctx, a.Card.PINFile, "PIN of your card")
		if err == nil {
			pin, err = secret.NewPIN(answer.Bytes())
		}
		return pin, err
	})
	if err != nil {
		return err
	}
	i.Stored = a.Card.PINFile != ""
	t, ok := a.client.Transport.(*http.Transport)
	if !ok {
		return errors.New("no connection that could show a certificate")
	}
	i.Show(t.TLSClientConfig)
	return nil
}

// chooseLogin refuses flags that contradict each other.
func chooseLogin(c *cli.Context) error {
	user, card := c.String("user") != "", c.Bool("card")
	switch {
	case user == card:
		return usagef("login takes --user or --card")
	case card && c.String("password-file") != "":
		return usagef("--card goes without --password-file")
	}
	for _, f := range []string{"reader", "sim", "pin-file"} {
		if user && c.String(f) != "" {
			return usagef("--%s goes with --card", f)
		}
	}
	return nil
}
