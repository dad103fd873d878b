package cli

import (
	"context"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"log/slog"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/cli/station"
	"inkan/sim"
	"inkan/tks/hsm/softkey"
	"inkan/tps/auth"
	"inkan/tps/profile"
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

// prepare makes the folder as inkan init --lab does, with secrets drawn at random.
func (d *demo) prepare(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab, cfg.TPS.AllowSimulator = "demo", true, true
	cfg.Listen = config.Listen{Address: net.JoinHostPort("127.0.0.1", port), Names: []string{"localhost", "127.0.0.1"}, URL: "https://localhost:" + port}
	cfg.CA.URL = cfg.Listen.URL
	d.password, d.pin = randomPassword(), randomDigits()
	params := softkey.FloorParams()
	err = server.Create(ctx, d.folder, server.Answers{
		Config: cfg, KeyParams: &params, AdminPassword: d.password.Clone(),
		Admin: auth.User{ID: "demo", Name: "Demo Person", Mail: "demo@example.org", UPN: "demo@example.org", Roles: []auth.Role{auth.Admin, auth.Agent}},
	})
	if err != nil {
		return err
	}
	if d.node, err = server.Open(ctx, d.folder, server.Options{Log: d.log}); err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	d.roots.AddCert(d.node.Authority.Certificate())
	d.client = &wire.Client{BaseURL: cfg.Listen.URL, TLS: wire.CertificateTrust(d.node.Authority.Certificate())}
	return d.addProfile(ctx)
}

// addProfile stores demoKey: with [keys] version = 2, changed by rekey only.
func (d *demo) addProfile(ctx context.Context) error {
	r, err := d.node.DB.Profile(ctx, d.kind.profile)
	if err != nil {
		return err
	}
	doc := strings.NewReplacer(fmt.Sprintf("name = %q", d.kind.profile), fmt.Sprintf("name = %q", demoProfile), "\nversion = 0\n", "\nversion = 2\n",
		`change_on = ["format", "key-changeover"]`, `change_on = ["key-changeover"]`).Replace(r.Document)
	_, err = d.node.DB.PutProfile(ctx, profile.Record{Name: demoProfile, State: profile.Enabled, Document: doc})
	return err
}

func (d *demo) makeCard(ctx context.Context) error {
	var err error
	if d.card, err = sim.Create(filepath.Join(d.folder, "card.img"), d.kind.model, 0); err != nil {
		return err
	}
	info, err := station.Describe(ctx, d.card)
	if err != nil {
		return err
	}
	d.say("CUID %s, %s, card keys %s", info.CUID, strings.Join(info.Protocols, ", "), strings.Join(info.Keys, ", "))
	return nil
}

// operation runs one with the server, as inkan card does.
func (d *demo) operation(op wire.Operation) func(context.Context) error {
	return func(ctx context.Context) error {
		res, err := wire.Run(ctx, d.client, wire.Begin{Operation: op, TokenType: string(demoProfile), Profile: string(demoProfile), Batch: wire.DefaultBatch}, d.card, &demoPerson{demo: d})
		if err != nil {
			return err
		}
		d.say("%d commands to the card in %.1f s", res.APDUs, res.Elapsed.Seconds())
		return nil
	}
}

func (d *demo) use(ctx context.Context) error {
	used, err := station.Use(ctx, d.card, d.pin, d.roots)
	for _, u := range used {
		d.say("%s: %s; the certificate is the authority's", u.Label, u.Did)
	}
	return err
}

func (d *demo) resetPIN(ctx context.Context) error {
	old := d.pin
	d.pin = randomDigits()
	if err := d.operation(wire.ResetPIN)(ctx); err != nil {
		return err
	}
	if _, err := station.Use(ctx, d.card, old, d.roots); err == nil {
		return errors.New("the card still takes the old PIN")
	}
	d.say("the old PIN is refused")
	return d.use(ctx)
}

func (d *demo) rekey(ctx context.Context) error {
	if err := d.operation(wire.KeyChangeover)(ctx); err != nil {
		return err
	}
	info, err := station.Describe(ctx, d.card)
	if err != nil {
		return err
	}
	d.say("card keys now: %s, derived from the site's master key for this card alone", strings.Join(info.Keys, ", "))
	return nil
}

func (d *demo) cut(ctx context.Context) error {
	d.card.Cut(d.kind.cutAt, sim.After)
	err := d.operation(wire.Enroll)(ctx)
	if err == nil {
		return errors.New("the enrollment ended before the card was pulled")
	}
	d.say("the client says: %v", err)
	open, err := d.node.DB.OpenJournals(ctx)
	if err != nil {
		return err
	}
	for _, j := range open {
		d.say("the server remembers: unfinished %s of %s, last step %s", j.Operation, j.UserID, j.Entries[len(j.Entries)-1].Step)
	}
	return nil
}

func (d *demo) resume(ctx context.Context) error {
	d.card.Insert()
	if err := d.operation(wire.Enroll)(ctx); err != nil {
		return err
	}
	return d.use(ctx)
}

// records prints what the server keeps.
func (d *demo) records(ctx context.Context) error {
	ts, err := d.node.DB.Tokens(ctx, token.Filter{})
	if err != nil {
		return err
	}
	for _, t := range ts {
		d.say("token %s: %s, owner %s, profile %s, applet %s, keys %s version %X", t.CUID, t.State, t.UserID, t.Profile, t.AppletID, t.KeySet, []byte(t.KeyInfo)[:1])
		certs, err := d.node.DB.CertificatesOf(ctx, t.CUID)
		if err != nil {
			return err
		}
		for _, c := range certs {
			d.say("  certificate %s: %s, %s, until %s", c.Serial, c.KeyType, c.State, c.NotAfter.Format(time.DateOnly))
		}
	}
	as, err := d.node.DB.Activities(ctx, token.Filter{})
	if err != nil {
		return err
	}
	for i := len(as) - 1; i >= 0; i-- {
		a := as[i]
		result := "success"
		if !a.Success {
			result = "failure"
		}
		d.say("  %s  %-14s %s  %s", a.Time.Local().Format(time.TimeOnly), a.Operation, result, a.Message)
	}
	return nil
}

// next ends the story.
func (d *demo) next(keep bool) {
	if !keep {
		fmt.Fprint(d.out, `
Everything was removed again. What next:
  inkan demo --keep                     the same, and the server stays for you to look at
  inkan --data lab init --lab           a folder of your own
  inkan --data lab serve                and a node that runs on it
  inkan card enroll --help              enroll a card in a reader, or a software card
`)
		return
	}
	url := d.node.Config.Listen.URL
	file := filepath.Join(d.folder, "SECRETS")
	text := fmt.Sprintf("user demo\npassword %s\nPIN %s\n", d.password.Bytes(), d.pin.Bytes())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		fmt.Fprintf(d.out, "\nThe secrets could not be kept: %v\n", err)
	}
	fmt.Fprintf(d.out, `
The server goes on at %s until you interrupt it. In another terminal:
  inkan --data %s token list
  inkan --data %s activity list
  inkan card info --sim %s
  inkan card reset-pin --sim %s --server %s --user demo --trust %s
Password and PIN are in %s. Remove the folder when you are done.
`, url, d.folder, d.folder, filepath.Join(d.folder, "card.img"), filepath.Join(d.folder, "card.img"), url,
		filepath.Join(d.folder, "ca", "ca.pem"), file)
}

// demoPerson answers what the server asks, and tells the progress.
type demoPerson struct {
	demo *demo
	last string
}

func (q *demoPerson) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{auth.FieldUser: secret.New([]byte("demo")), auth.FieldPassword: q.demo.password.Clone()}, nil
}

func (q *demoPerson) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.PIN{Secret: q.demo.pin.Clone()}, nil
}

func (q *demoPerson) Progress(percent int, task string) {
	if t := station.Task(task); t != q.last {
		q.last = t
		q.demo.say("%3d%%  %s", percent, t)
	}
}

// randomPassword has 100 random bits.
func randomPassword() secret.Secret {
	raw := secret.Random(15)
	defer raw.Wipe()
	text := make([]byte, base32.StdEncoding.EncodedLen(raw.Len()))
	base32.StdEncoding.Encode(text, raw.Bytes())
	return secret.New(text)
}

// randomDigits is a PIN that no rule calls simple.
func randomDigits() secret.PIN {
	for {
		raw := secret.Random(4)
		text := make([]byte, hex.EncodedLen(raw.Len()))
		for i, b := range raw.Bytes() {
			text[2*i], text[2*i+1] = '0'+b%10, '0'+(b/16)%10
		}
		raw.Wipe()
		pin := secret.PIN{Secret: secret.New(text)}
		if (profile.PIN{Min: 4, Max: 10, Kinds: 1}).Check(pin, "demo", "Demo Person") == nil {
			return pin
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
