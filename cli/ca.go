package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/cli/server"
	"inkan/tks/hsm"
)

func (p *program) caCommand() *cli.Command {
	return &cli.Command{
		Name:  "ca",
		Usage: "keys of the embedded certificate authority",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the authority's keys, the newest first", Description: "   inkan ca list\n   inkan ca list --json",
				Action: p.listAuthority,
			},
			{
				Name: "rollover", Usage: "make the authority's next key",
				Description: "Makes a new key in the HSM or key file, and its certificate. From the next start of the node on it issues;\n" +
					"the old keys revoke and answer for what they have issued. Old and new key vouch for each other, so who\n" +
					"trusts the old one goes on. The node must not run meanwhile. In an array that is its primary, from which the other\n" +
					"nodes take the new certificates when it runs again; they issue with the new key from their next start on.\n\n" +
					"   inkan ca rollover\n   inkan ca rollover --key ec-p384",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "key", Usage: "`KIND`: ec-p256, ec-p384, rsa-3072, rsa-4096; default: as the present one"}},
				Action: p.rollOver,
			},
		},
	}
}

func (p *program) listAuthority(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	gs, err := server.ListGenerations(c.String("data"))
	if err != nil {
		return err
	}
	return p.print(c, gs, func(w io.Writer) { printGenerations(w, gs) })
}

func printGenerations(w io.Writer, gs []server.Generation) {
	table(w, "GENERATION\tKEY\tFROM\tTO\tSTATE\tFINGERPRINT", len(gs), func(i int) string {
		g := gs[i]
		state := "answers for what it issued"
		switch {
		case time.Now().After(g.NotAfter):
			state = "expired"
		case g.Issuing:
			state = "issues"
		}
		return strings.Join([]string{
			strconv.Itoa(g.Number), g.Key, g.NotBefore.Format(time.DateOnly), g.NotAfter.Format(time.DateOnly), state, g.Fingerprint,
		}, "\t")
	})
}

func (p *program) rollOver(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	var algorithm hsm.Algorithm
	if name := c.String("key"); name != "" {
		var err error
		if algorithm, err = hsm.ParseAlgorithm(name); err != nil {
			return usageError{err}
		}
	}
	gs, err := server.RollOver(c.Context, c.String("data"), p.options(c, slog.LevelWarn), algorithm)
	if errors.Is(err, server.ErrInUse) {
		return fmt.Errorf("%w: stop the node (inkan serve), roll over, and start it again", err)
	}
	if err != nil {
		return err
	}
	return p.print(c, gs, func(w io.Writer) {
		fmt.Fprintf(w, "Key %d of the authority is made: %s, valid to %s. It issues from the next start of the node on.\nFingerprint %s\n"+
			"No backup holds it yet: inkan keyset backup\n", gs[0].Number, gs[0].Key, gs[0].NotAfter.Format(time.DateOnly), gs[0].Fingerprint)
	})
}
