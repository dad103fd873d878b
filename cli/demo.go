package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/sim"
	"inkan/tps/token"
	"inkan/tps/wire"
)

func (p *program) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "everything embedded: a card formatted, enrolled, used and re-keyed before your eyes",
		Description: "Needs nothing of this machine: keys in a file, a database in a file, a software card. Everything is\n" +
			"made in a temporary folder and removed at the end.\n\n   inkan demo\n   inkan demo --card piv\n   inkan demo --keep",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "card", Usage: "`KIND` of the card's applet: coolkey or piv", Value: "coolkey"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the folder and go on serving until interrupted; the secrets are in its file SECRETS"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			kind, ok := demoKinds[c.String("card")]
			if !ok {
				return usagef("--card takes coolkey or piv")
			}
			dir, err := os.MkdirTemp("", "inkan-demo-")
			if err != nil {
				return err
			}
			d := &demo{p: p, kind: kind, out: p.out, folder: dir, began: time.Now(), log: p.logger(c, slog.LevelError)}
			if isSet(c, "quiet") {
				d.out = io.Discard
			}
			keep := c.Bool("keep")
			err = d.run(c.Context, keep)
			if !keep || err != nil {
				err = errors.Join(err, os.RemoveAll(dir))
			}
			return err
		},
	}
}

// demo is the story that is told.
type demo struct {
	p       *program
	kind    demoKind
	out     io.Writer
	folder  string
	began   time.Time
	log     *slog.Logger
	chapter int

	node     *server.Node
	card     *sim.Card
	client   *wire.Client
	roots    *x509.CertPool
	password secret.Secret
	pin      secret.PIN
}

// demoKind is what differs between the kinds of cards.
type demoKind struct {
	model   string
	profile token.ProfileName // shipped, what demoProfile is made of
	makes   string            // what enrolling makes
	// cutAt is the exchange of a second enrollment at which the card leaves: a key of
	// the first one has been overwritten by then, and no certificate is on the card.
	cutAt int
}

// demoKinds: both cards come with their maker's keys, and rekey gives them the site's.
var demoKinds = map[string]demoKind{
	"coolkey": {
		model: sim.DefaultModel, profile: "userKey", makes: "two key pairs made on the card, two certificates", cutAt: 24,
	},
	"piv": {
		model: "piv", profile: "pivUser", makes: "management key and PUK of its own, four key pairs made on the card, four certificates", cutAt: 44,
	},
}

// demoProfile is a shipped profile with a key version, so that a rekey has somewhere to go.
const demoProfile token.ProfileName = "demoKey"

func (d *demo) run(ctx context.Context, keep bool) (err error) {
	fmt.Fprintf(d.out, "Inkan %s: the life of a smart card\n", version())
	if err := d.step(ctx, "preparing a data folder: master key, certificate authority, a person", d.prepare); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.node.Close()) }()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	ready := make(chan server.Listener, 1)
	go func() { ended <- d.node.Serve(serving, func(l server.Listener) { ready <- l }) }()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	if err := d.story(ctx); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	d.next(keep)
	if !keep {
		stop()
	}
	return <-ended
}

// story is what happens to the card.
func (d *demo) story(ctx context.Context) error {
	defer func() { d.card.Close() }()
	for _, s := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"making a software card, as it comes from a card maker", d.makeCard},
		{"formatting it: the applet is loaded over a secure channel", d.operation(wire.Format)},
		{"enrolling it: PIN, " + d.kind.makes, d.operation(wire.Enroll)},
		{"using it", d.use},
		{"resetting the PIN", d.resetPIN},
		{"changing the card's keys from the maker's to the site's own", d.rekey},
		{"pulling the card out in the middle of an enrollment", d.cut},
		{"putting it in again and finishing", d.resume},
		{"looking at the records", d.records},
	} {
		if err := d.step(ctx, s.title, s.do); err != nil {
			return err
		}
	}
	return nil
}

// step tells a chapter: its title with the time so far, its own lines, and how
// long it took.
func (d *demo) step(ctx context.Context, title string, do func(context.Context) error) error {
	d.chapter++
	began := time.Now()
	fmt.Fprintf(d.out, "\n[%5.1f s] %d. %s\n", began.Sub(d.began).Seconds(), d.chapter, title)
	err := do(ctx)
	if err != nil {
		d.say("FAILED: %v", err)
		return reported{fmt.Errorf("%s: %w", title, err)}
	}
	d.say("done in %.1f s", time.Since(began).Seconds())
	return nil
}

func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, "            "+format+"\n", a...) }

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
