package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

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
