package cli

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/cli/station"
	"inkan/sim"
	"inkan/sim/vpcd"
)

func (p *program) simCommand() *cli.Command {
	image := &cli.StringFlag{Name: "image", Usage: "image `FILE` of the card", Value: "card.img"}
	make := []cli.Flag{
		image,
		&cli.StringFlag{Name: "model", Usage: "`MODEL` of a new card, or a TOML file", Value: "gp-scp03"},
		&cli.Uint64Flag{Name: "serial", Usage: "serial `NUMBER` of a new card; default: drawn at random"},
	}
	return &cli.Command{
		Name:  "sim",
		Usage: "software cards",
		Subcommands: []*cli.Command{
			{Name: "new", Usage: "make a software card",
				Description: "Models:\n\n" + modelTable() + "\n   inkan sim new --image card.img --model gp-scp03", Flags: make, Action: p.newSim},
			{
				Name: "info", Usage: "show a software card", Description: "   inkan sim info --image card.img", Action: p.showSim,
				Flags: []cli.Flag{image, &cli.BoolFlag{Name: "attestation-root", Usage: "print the root of its PIV attestation, PEM, and nothing else"}},
			},
			{
				Name: "run", Usage: "put a software card into the machine's PC/SC service, until interrupted",
				Description: "Needs the reader driver vpcd (Debian: vsmartcard-vpcd) in pcscd. The image is made if it is not there.\n\n" +
					"   inkan sim run --vpcd 127.0.0.1:35963 --image card.img",
				Flags:  append([]cli.Flag{&cli.StringFlag{Name: "vpcd", Usage: "`ADDRESS` where vpcd listens", Value: "127.0.0.1:35963"}}, make...),
				Action: p.runSim,
			},
		},
	}
}

// simCard opens the image, or makes it.
func simCard(c *cli.Context) (*sim.Card, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	path := c.String("image")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return sim.Create(path, c.String("model"), c.Uint64("serial"))
	}
	return sim.Open(path)
}

func (p *program) newSim(c *cli.Context) error {
	path := c.String("image")
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	}
	card, err := simCard(c)
	if err != nil {
		return err
	}
	defer card.Close()
	return p.describeSim(c, card, path)
}

func (p *program) showSim(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	card, err := station.OpenCard(c.Context, station.Source{Sim: c.String("image")})
	if err != nil {
		return err
	}
	defer card.Close()
	if s, ok := card.(*sim.Card); ok && c.Bool("attestation-root") {
		return p.attestationRoot(s, c.String("image"))
	}
	return p.describeSim(c, card, c.String("image"))
}

// attestationRoot prints what a verifier of this software card would have to trust.
func (p *program) attestationRoot(card *sim.Card, path string) error {
	root := card.Info().Attestation
	if root == nil {
		return fmt.Errorf("%s has no PIV applet that attests", path)
	}
	return pem.Encode(p.out, &pem.Block{Type: "CERTIFICATE", Bytes: root})
}

func (p *program) describeSim(c *cli.Context, card station.Card, path string) error {
	info, err := station.Describe(c.Context, card)
	if err != nil {
		return err
	}
	out := simInfo{Info: info}
	if s, ok := card.(*sim.Card); ok {
		out.Model, out.Oddities = s.Info().Model, s.Info().Oddities
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "Software card %s\n", path)
		fmt.Fprintf(w, "%-14s %s\n", "Model", out.Model)
		for _, o := range out.Oddities {
			fmt.Fprintf(w, "%-14s %s (%s)\n", "Oddity", o.Text, o.Name)
		}
		printInfo(w, info)
	})
}

// simInfo is what sim new and sim info print: more than a card shows.
type simInfo struct {
	station.Info
	Model    string       `json:"model"`
	Oddities []sim.Oddity `json:"oddities,omitempty"`
}

// modelTable lists the models that are built in.
func modelTable() string {
	var b strings.Builder
	for _, name := range sim.Models() {
		if m, err := sim.LoadModel(name); err == nil {
			fmt.Fprintf(&b, "   %-18s %s\n", name, m.Title)
		}
	}
	return b.String()
}

func (p *program) runSim(c *cli.Context) error {
	card, err := simCard(c)
	if err != nil {
		return err
	}
	defer card.Close()
	say := func(format string, a ...any) {
		if !isSet(c, "quiet") {
			fmt.Fprintf(p.err, format, a...)
		}
	}
	say("Software card %s goes into the reader at %s; interrupt to take it out.\n", c.String("image"), c.String("vpcd"))
	client := &vpcd.Client{
		Addr: c.String("vpcd"), Card: card, Log: p.logger(c, slog.LevelWarn), Patience: driverPatience,
		Powered: func() { say("The reader has it.\n") },
	}
	err = client.Run(c.Context)
	if errors.Is(err, vpcd.ErrNoDriver) { // pcscd may be started by the first program that asks for it
		say("No reader yet: %v\nWaiting for one.\n", err)
		client.Patience = 0
		err = client.Run(c.Context)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// driverPatience is how long nothing is said about a reader that is not there.
const driverPatience = 2 * time.Second
