package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/cli/manager"
	"inkan/cli/station"
)

func (p *program) gpCommand() *cli.Command {
	card := []cli.Flag{
		&cli.StringFlag{Name: "reader", Usage: "`NAME` of the PC/SC reader, or the beginning of it"},
		&cli.StringFlag{Name: "sim", Usage: "image `FILE` of a software card"},
		&cli.StringFlag{Name: "keys", Usage: "the card's keys: factory (the published ones), or a `FILE`; default: asked for"},
		&cli.StringFlag{Name: "key-version", Usage: "version `N` of the card's keys, two hexadecimal digits; default: the card's choice"},
		&cli.StringSliceFlag{Name: "compat", Usage: "what an odd card wants, as in [compat] of a profile: `NAME` no_le, empty_field, data_counter"},
		&cli.StringFlag{Name: "manager", Usage: "`AID` of the card manager; default: what the card selects by itself"},
	}
	with := func(more ...cli.Flag) []cli.Flag { return append(more, card...) }
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	newKeys := &cli.StringFlag{Name: "new-keys", Usage: "`FILE` with the new keys; default: asked for"}
	return &cli.Command{
		Name:  "gp",
		Usage: "the card manager of any GlobalPlatform card, by hand",
		Description: "Works on the card alone, without a server and without its records: a card that Inkan looks after is changed\n" +
			"by the operations of inkan card. The card says whether it speaks SCP01, SCP02 or SCP03; one that\n" +
			"says nothing is taken for a card of Open Platform 2.0.1 (SCP01).\n\n" +
			"A file of keys has three lines in hexadecimal, ENC, MAC and DEK; behind each key its check value may stand.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list what is on the card", Description: "   inkan gp list --keys factory\n   inkan gp list --sim card.img --keys factory --json",
				Flags: with(), Action: p.listGP,
			},
			{
				Name: "install", Usage: "load a CAP or IJC file and make its applet", ArgsUsage: "FILE",
				Description: "   inkan gp install applet.cap --keys factory\n   inkan gp install applet.cap --module A00000000101 --aid A0000000010101 --params 0102",
				Flags: with(
					&cli.StringFlag{Name: "module", Usage: "`AID` of the applet in the file; default: its only one"},
					&cli.StringFlag{Name: "aid", Usage: "`AID` that the applet gets; default: as in the file"},
					&cli.StringFlag{Name: "params", Usage: "`HEX` that the applet is given"},
					&cli.BoolFlag{Name: "default", Usage: "make it the card's default selected application"},
				), Action: p.installGP,
			},
			{
				Name: "delete", Usage: "take an applet, or a load file with its applets, off the card", ArgsUsage: "AID",
				Description: "Everything in it is lost. Shows what goes, and asks.\n\n   inkan gp delete A00000000101 --keys factory",
				Flags:       with(yes), Action: p.deleteGP,
			},
			{
				Name: "put-key", Usage: "put a key set onto the card manager",
				Description: "Adds a key set, or replaces one. Many cards drop their factory keys with the first set of their own.\n\n" +
					"   inkan gp put-key --keys factory --new-keys keys.txt --new-version 02\n   inkan gp put-key --keys old.txt --new-keys keys.txt --new-version 03 --replace 02",
				Flags: with(yes, newKeys,
					&cli.StringFlag{Name: "new-version", Usage: "version `N` of the new keys, 01 to 7F"},
					&cli.StringFlag{Name: "replace", Usage: "version `N` of the keys that they replace; default: none"},
				), Action: func(c *cli.Context) error { return p.changeGP(c, false) },
			},
			{
				Name: "lock", Usage: "give the card manager keys of your own in place of the present ones",
				Description: "Whoever loses the new keys has lost the card: each needs its check value, and a wrong one is refused before\n" +
					"anything is sent. The card is then opened under the new keys.\n\n   inkan gp lock --keys factory --new-keys keys.txt",
				Flags:  with(yes, newKeys, &cli.StringFlag{Name: "new-version", Usage: "version `N` of the new keys, 01 to 7F", Value: "01"}),
				Action: func(c *cli.Context) error { return p.changeGP(c, true) },
			},
		},
	}
}

// withManager runs do with a card manager that has been opened.
func (p *program) withManager(c *cli.Context, do func(*manager.Manager) error) error {
	cfg := manager.Config{}
	var err error
	if s := c.String("manager"); s != "" {
		if cfg.AID, err = apdu.ParseAID(s); err != nil {
			return usageError{err}
		}
	}
	if s := c.String("key-version"); s != "" {
		if cfg.Version, err = gp.ParseKeyVersion(s); err != nil {
			return usageError{err}
		}
	}
	if cfg.Dialect, err = manager.ParseDialect(c.StringSlice("compat")); err != nil {
		return usageError{err}
	}
	if cfg.Keys, err = p.cardKeys(c, c.String("keys"), "the card's key"); err != nil {
		return err
	}
	defer cfg.Keys.Wipe()
	card, err := station.OpenCard(c.Context, station.Source{Reader: c.String("reader"), Sim: c.String("sim")})
	if err != nil {
		return err
	}
	m, err := manager.Open(c.Context, card, cfg)
	if err == nil {
		err = errors.Join(do(m), m.Close())
	}
	return errors.Join(err, card.Close())
}

// maxKeyFile bounds a file of keys, in bytes.
const maxKeyFile = 4 << 10

// cardKeys reads keys: the published ones, from a file, or typed.
func (p *program) cardKeys(c *cli.Context, from, question string) (manager.Keys, error) {
	switch from {
	case "factory":
		return manager.Factory(), nil
	case "":
		return p.askKeys(c.Context, question)
	}
	f, err := os.Open(from)
	if err != nil {
		return manager.Keys{}, fmt.Errorf("reading keys: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	defer clear(b)
	if err != nil {
		return manager.Keys{}, fmt.Errorf("reading keys: %w", err)
	}
	keys, err := manager.ParseKeys(b)
	if err != nil {
		return keys, fmt.Errorf("%s: %w", from, err)
	}
	return keys, nil
}

// askKeys asks for three keys, each with its check value behind it if there is one.
func (p *program) askKeys(ctx context.Context, question string) (manager.Keys, error) {
	var keys manager.Keys
	for i, name := range []string{"ENC", "MAC", "DEK"} {
		s, err := p.askSecret(ctx, question+" "+name+", and its check value")
		if err == nil {
			keys[i], err = manager.ParseKey(s.Bytes())
			s.Wipe()
		}
		if err != nil {
			for _, k := range keys[:i] {
				k.Value.Wipe()
			}
			return manager.Keys{}, err
		}
	}
	return keys, nil
}
