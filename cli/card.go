package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/tps"
	"inkan/tps/wire"
)

func (p *program) cardCommand() *cli.Command {
	source := []cli.Flag{
		&cli.StringFlag{Name: "reader", Usage: "`NAME` of the PC/SC reader, or the beginning of it"},
		&cli.StringFlag{Name: "sim", Usage: "image `FILE` of a software card"},
	}
	with := slices.Concat(serverFlags(), []cli.Flag{
		&cli.StringFlag{Name: "user", Usage: "`NAME` to log in with"},
		&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password, - for standard input"},
		&cli.BoolFlag{Name: "dry-run", Usage: "tell what would be done, step by step, and what would be lost; nothing is done"},
		&cli.BoolFlag{Name: "resume", Usage: "first finish another operation that was cut on this card"},
	}, source)
	pin := &cli.StringFlag{Name: "pin-file", Usage: "`FILE` with the PIN, - for standard input"}
	cardPIN := &cli.StringFlag{Name: "card-pin-file", Usage: "`FILE` with the PIN that a PIV card has now, where its management key is behind it, - for standard input"}
	ticket := &cli.StringFlag{Name: "ticket-file", Usage: "`FILE` with a ticket (inkan token ticket) in place of user and password, - for standard input"}
	operation := func(name, usage, example string, op wire.Operation, more ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, Description: example, Flags: append(more, with...),
			Action: func(c *cli.Context) error { return p.runCard(c, op) },
		}
	}
	return &cli.Command{
		Name:  "card",
		Usage: "work with a card in a reader, or a software card",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list readers and what is in them", Description: "   inkan card list", Action: p.listCards},
			{Name: "info", Usage: "show what a card shows to anybody", Description: "   inkan card info --sim card.img", Flags: source, Action: p.cardInfo},
			operation("format", "empty a card: applet, keys, no owner", "   inkan card format --server https://tps.example:8443 --user ada --dry-run   # the steps, and what would be lost; nothing is done\n   inkan card format --server https://tps.example:8443 --user ada", wire.Format),
			operation("enroll", "give a person the card: PIN, keys, certificates", "   inkan card enroll --server https://tps.example:8443 --user ada --profile userKey\n   inkan card enroll --server https://tps.example:8443 --user ada --profile pivUser     # a YubiKey, or another PIV card\n   inkan card enroll --server https://tps.example:8443 --user ada --card-pin-file now   # one that keeps its management key behind its PIN", wire.Enroll, pin, cardPIN, ticket),
			operation("renew", "new certificates for the keys on your card, which stay, as does the PIN", "The card's profile says when ([renewal]: by default from 30 days before the end of a certificate to 30 days\n"+
				"behind it) and what becomes of the old certificates.\n\n   inkan card renew --server https://tps.example:8443 --user ada", wire.Renew, ticket),
			operation("reset-pin", "set a new PIN on your card", "   inkan card reset-pin --server https://tps.example:8443 --user ada\n   inkan card reset-pin --server https://tps.example:8443 --ticket-file ticket.txt", wire.ResetPIN, pin, ticket),
			operation("unblock", "set a new PIN on your card after too many wrong ones: the same as reset-pin", "The server has the PUK of PIV cards; nobody types it. A card whose PUK is blocked too has to be formatted and\n"+
				"enrolled again.\n\n   inkan card unblock --server https://tps.example:8443 --user ada", wire.ResetPIN, pin, ticket),
			operation("rekey", "move a card to the site's own keys", "   inkan card rekey --server https://tps.example:8443 --user ada --profile siteKey --dry-run\n   inkan card rekey --server https://tps.example:8443 --user ada --profile siteKey", wire.KeyChangeover, cardPIN),
			{
				Name: "test", Usage: "log in to the card and use every key on it",
				Description: "PIV cards in a reader are used by piv-go too, a program of others, where this build has it. A key that\n" +
					"wants a touch waits for it.\n\n   inkan card test --sim card.img --trust inkan-data/ca/ca.pem",
				Flags: append([]cli.Flag{pin, &cli.StringFlag{Name: "trust", Usage: "PEM `FILE` with the CA of the card's certificates"}}, source...), Action: p.testCard,
			},
		},
	}
}

// serverFlags are those of every command that works on cards with a server.
func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "`URL` of the server, https://host:port", EnvVars: []string{"INKAN_SERVER"}},
		&cli.StringFlag{Name: "profile", Usage: "`NAME` of the profile; default: the server's choice"},
		&cli.StringFlag{Name: "trust", Usage: "PEM `FILE` with the CA of the server"},
		&cli.StringFlag{Name: "fingerprint", Usage: "`SHA256` of the CA of the server, accepted without asking"},
		&cli.StringFlag{Name: "batch-apdus", Usage: "off, or `N` commands to the card in one network round trip, at most 256", Value: strconv.Itoa(wire.DefaultBatch)},
	}
}

// serverOf is the server that the flags name.
func (p *program) serverOf(c *cli.Context) station.Server {
	return station.Server{URL: c.String("server"), Trust: c.String("trust"), Fingerprint: c.String("fingerprint"), Ask: p.askServer}
}

// secretFrom reads a secret from a file, or asks for it.
func (p *program) secretFrom(ctx context.Context, file, question string) (secret.Secret, error) {
	if file != "" {
		return p.readSecret(file)
	}
	return p.askSecret(ctx, question)
}

// cardResult is what an operation prints.
type cardResult struct {
	Operation string  `json:"operation"`
	Result    string  `json:"result"`
	Status    int     `json:"status"`
	Seconds   float64 `json:"seconds"`
	APDUs     int     `json:"apdus"`
	Trips     int     `json:"trips"` // network round trips
	Error     string  `json:"error,omitempty"`
	Card      string  `json:"card,omitempty"`
	Next      string  `json:"next,omitempty"`
	// Proved is what an enrolled PIV card was used for at once.
	Proved []station.Used `json:"proved,omitempty"`
	// Plan is what a dry run found.
	Plan *tps.Preview `json:"plan,omitempty"`
	// Until is when the first certificate on a renewed card ends, where it can be read.
	Until *time.Time `json:"until,omitempty"`
}

// parseBatch reads --batch-apdus; 0 is off.
func parseBatch(s string) (int, error) {
	if s == "off" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > wire.MaxBatchFrames {
		return 0, usagef("--batch-apdus takes off or a number from 1 to %d", wire.MaxBatchFrames)
	}
	return n, nil
}

// runCard runs one operation of a card with a server.
func (p *program) runCard(c *cli.Context, op wire.Operation) error {
	if c.String("server") == "" {
		return usagef("%s needs --server", c.Command.FullName())
	}
	if c.Bool("dry-run") && c.String("ticket-file") != "" {
		return usagef("--dry-run goes without --ticket-file: a ticket is good once, and would be used up")
	}
	batch, err := parseBatch(c.String("batch-apdus"))
	if err != nil {
		return err
	}
	card, err := openCard(c)
	if err != nil {
		return err
	}
	defer card.Close()
	cl, err := p.serverOf(c).Client(c.Context)
	if err != nil {
		return err
	}
	person := &person{p: p, user: c.String("user"), passwordFile: c.String("password-file"), pinFile: c.String("pin-file"), cardPINFile: c.String("card-pin-file"), quiet: isSet(c, "quiet") || isSet(c, "json"), dry: c.Bool("dry-run")}
	defer person.done()
	if file := c.String("ticket-file"); file != "" {
		if c.String("user") != "" || c.String("password-file") != "" {
			return usagef("--ticket-file goes without --user and --password-file")
		}
		person.passwordFile = file
	}
	witness := &station.Witness{Prompter: person}
	defer witness.PIN.Wipe()
	res, err := wire.Run(c.Context, cl, wire.Begin{
		Operation: op, TokenType: c.String("profile"), Profile: c.String("profile"), ClientVersion: clientVersion(), Resume: c.Bool("resume"), DryRun: person.dry, Ticket: c.String("ticket-file") != "", Batch: batch,
	}, card, witness)
	person.done()
	if person.dry {
		return p.printDryRun(c, res, err)
	}
	out := cardResult{Operation: op.String(), Result: "done", Seconds: res.Elapsed.Seconds(), APDUs: res.APDUs, Trips: res.Trips}
	if err == nil && op == wire.Enroll {
		out.Proved, err = proveEnrolled(c, card, witness)
	}
	if err == nil && op == wire.Renew {
		out.Until = endOn(c.Context, card)
	}
	if err == nil {
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "%s done in %.1f s, %d commands to the card. The card may be taken out.\n", op, res.Elapsed.Seconds(), res.APDUs)
			if len(out.Proved) > 0 {
				printUsed(w, out.Proved)
			}
			if out.Until != nil {
				fmt.Fprintf(w, "The certificates on it are good until %s.\n", out.Until.Format(time.DateOnly))
			}
		})
	}
	if !isSet(c, "json") {
		return err
	}
	out.fail(err)
	return reported{errors.Join(err, p.print(c, out, nil))}
}

// fail is the result of an operation that ended with err.
func (r *cardResult) fail(err error) {
	r.Result, r.Error = "failed", err.Error()
	var end *wire.EndError
	if errors.As(err, &end) {
		x := end.Explain()
		r.Status, r.Card, r.Next = end.Status, x.Card.String(), x.Do
	}
}

// endOn is when the first certificate on a card ends, nil where that cannot be read.
func endOn(ctx context.Context, card station.Card) *time.Time {
	i, err := station.Describe(ctx, card)
	if err != nil || i.Contents() == nil {
		return nil
	}
	end := station.FirstEnd(i.Contents().Certificates)
	if end.IsZero() {
		return nil
	}
	return &end
}

// askServer shows the fingerprint of a server that nobody vouches for.
func (p *program) askServer(addr string, ca *x509.Certificate) (bool, error) {
	fmt.Fprintf(p.err, "The server %s is not known here. Its authority is %s,\nfingerprint %v.\nCompare it with what inkan serve printed.\n", addr, ca.Subject, wire.FingerprintOf(ca))
	yes, err := p.confirm("Trust it from now on")
	if errors.Is(err, errNoTerminal) {
		return false, fmt.Errorf("%w; give the fingerprint with --fingerprint", err)
	}
	return yes, err
}

// absolute makes a path that does not depend on the working folder.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
