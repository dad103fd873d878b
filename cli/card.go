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
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps"
	"inkan/tps/auth"
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
			operation("format", "empty a card: applet, keys, no owner", "   inkan card format --server https://tps.example:8443 --user ada", wire.Format),
			operation("enroll", "give a person the card: PIN, keys, certificates", "   inkan card enroll --server https://tps.example:8443 --user ada --profile userKey\n   inkan card enroll --server https://tps.example:8443 --user ada --profile pivUser     # a YubiKey, or another PIV card\n   inkan card enroll --server https://tps.example:8443 --user ada --card-pin-file now   # one that keeps its management key behind its PIN", wire.Enroll, pin, cardPIN, ticket),
			operation("renew", "new certificates for the keys on your card, which stay, as does the PIN", "The card's profile says when ([renewal]: by default from 30 days before the end of a certificate to 30 days\n"+
				"behind it) and what becomes of the old certificates.\n\n   inkan card renew --server https://tps.example:8443 --user ada", wire.Renew, ticket),
			operation("reset-pin", "set a new PIN on your card", "   inkan card reset-pin --server https://tps.example:8443 --user ada\n   inkan card reset-pin --server https://tps.example:8443 --ticket-file ticket.txt", wire.ResetPIN, pin, ticket),
			operation("unblock", "set a new PIN on your card after too many wrong ones: the same as reset-pin", "The server has the PUK of PIV cards; nobody types it. A card whose PUK is blocked too has to be formatted and\n"+
				"enrolled again.\n\n   inkan card unblock --server https://tps.example:8443 --user ada", wire.ResetPIN, pin, ticket),
			operation("rekey", "move a card to the site's own keys", "   inkan card rekey --server https://tps.example:8443 --user ada --profile siteKey", wire.KeyChangeover, cardPIN),
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

func (p *program) listCards(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	svc, err := pcsc.Open(c.Context)
	if err != nil {
		return err
	}
	defer svc.Close()
	readers, err := svc.Readers(c.Context)
	if err != nil {
		return err
	}
	type row struct {
		Reader string `json:"reader"`
		State  string `json:"state"`
		ATR    string `json:"atr,omitempty"`
		Kind   string `json:"kind,omitempty"`
	}
	rows := make([]row, len(readers))
	for i, r := range readers {
		rows[i] = row{r.Name, r.State.String(), r.ATR.String(), kindOf(c.Context, svc, r)}
	}
	return p.print(c, rows, func(w io.Writer) {
		if len(rows) == 0 {
			fmt.Fprintln(w, "No reader is connected.")
		}
		for _, r := range rows {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-40s  %s  %s  %s", r.Reader, r.State, r.ATR, r.Kind), " "))
		}
	})
}

func openCard(c *cli.Context) (station.Card, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	return station.OpenCard(c.Context, cardSource(c))
}

// cardSource is where the flags say that the card is.
func cardSource(c *cli.Context) station.Source {
	return station.Source{Reader: c.String("reader"), Sim: c.String("sim")}
}

func (p *program) cardInfo(c *cli.Context) error {
	card, err := openCard(c)
	if err != nil {
		return err
	}
	defer card.Close()
	info, err := station.Describe(c.Context, card)
	if err != nil {
		return err
	}
	return p.print(c, info, func(w io.Writer) { printInfo(w, info) })
}

func printInfo(w io.Writer, i station.Info) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-14s %s\n", name, value)
		}
	}
	kind := ""
	if i.Simulated {
		kind = "  (software card)"
	}
	line("CUID", i.CUID+kind)
	line("MSN", i.MSN)
	line("ATR", i.ATR)
	line("Card manager", i.Manager)
	for _, s := range i.Protocols {
		line("Protocol", s)
	}
	for _, k := range i.Keys {
		line("Card keys", "version "+k)
	}
	for _, s := range i.Problems {
		line("Unreadable", s)
	}
	if i.PIV != nil {
		printPIV(line, i.PIV)
	}
	a := i.Applet
	if a == nil {
		if i.PIV == nil {
			line("Applet", "none")
		}
		return
	}
	line("Applet", fmt.Sprintf("%s %s, %s, %d of %d bytes free", a.Kind, a.Version, a.State, a.MemoryFree, a.MemoryTotal))
	line("Issuer", a.Issuer)
	line("Label", a.Label)
	line("PIN", a.PIN)
	certificate := func(kind string, c station.Certificate) {
		line(fmt.Sprintf("%s %d", kind, c.Number), fmt.Sprintf("%s: %s, %s, serial %s, until %s", c.Label, c.Subject, c.Key, c.Serial, c.NotAfter.Format(time.DateOnly)))
	}
	for _, c := range a.Certificates {
		certificate("Certificate", c)
	}
	for _, c := range a.Former {
		certificate("Former", c)
	}
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
	person := &person{p: p, user: c.String("user"), passwordFile: c.String("password-file"), pinFile: c.String("pin-file"), cardPINFile: c.String("card-pin-file"), quiet: isSet(c, "quiet") || isSet(c, "json")}
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
		Operation: op, TokenType: c.String("profile"), Profile: c.String("profile"), ClientVersion: clientVersion(), Resume: c.Bool("resume"), Ticket: c.String("ticket-file") != "", Batch: batch,
	}, card, witness)
	person.done()
	out := cardResult{Operation: op.String(), Result: "done", Seconds: res.Elapsed.Seconds(), APDUs: res.APDUs, Trips: res.Trips}
	if err == nil && op == wire.Enroll {
		out.Proved, err = proveEnrolled(c, card, witness)
	}
	if err == nil {
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "%s done in %.1f s, %d commands to the card. The card may be taken out.\n", op, res.Elapsed.Seconds(), res.APDUs)
			if len(out.Proved) > 0 {
				printUsed(w, out.Proved)
			}
		})
	}
	if !isSet(c, "json") {
		return err
	}
	out.Result, out.Error = "failed", err.Error()
	var end *wire.EndError
	if errors.As(err, &end) {
		x := wire.Explain(end.Status)
		out.Status, out.Card, out.Next = end.Status, x.Card.String(), x.Do
	}
	return reported{errors.Join(err, p.print(c, out, nil))}
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

// What a person whose answers are in files cannot mend: the operation is given up.
var (
	errLogin = errors.New("user name or password is wrong")
	errPIN   = errors.New("the PIN does not keep the profile's rules")
)

// person is the one at the terminal: a wire.Prompter.
type person struct {
	p                     *program
	user                  string
	passwordFile, pinFile string
	cardPINFile           string
	quiet                 bool
	bar                   *bar
	logins, pins          int
}

// Login implements wire.Prompter. Answers out of files are given once.
func (t *person) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	t.pause()
	if slices.ContainsFunc(f.Fields, func(q auth.Field) bool { return q.ID == tps.FieldCardPIN }) {
		return t.cardPIN(ctx, f)
	}
	t.logins++
	if t.logins > 1 {
		if t.passwordFile != "" {
			return nil, errLogin
		}
		fmt.Fprintln(t.p.err, "User name or password is wrong.")
	}
	answers := auth.Answers{}
	for _, field := range f.Fields {
		v, err := t.answer(ctx, field)
		if err != nil {
			answers.Wipe()
			return nil, err
		}
		answers[field.ID] = v
	}
	return answers, nil
}

// cardPIN answers the question for the PIN that the card has.
func (t *person) cardPIN(ctx context.Context, f auth.Form) (auth.Answers, error) {
	if f.Invalid && t.cardPINFile != "" {
		return nil, errors.New(f.Description)
	}
	fmt.Fprintln(t.p.err, f.Description)
	pin, err := t.p.secretFrom(ctx, t.cardPINFile, "PIN of the card")
	if err != nil {
		return nil, err
	}
	return auth.Answers{tps.FieldCardPIN: pin}, nil
}

func (t *person) answer(ctx context.Context, f auth.Field) (secret.Secret, error) {
	if f.Secret {
		return t.p.secretFrom(ctx, t.passwordFile, f.Name)
	}
	if t.user != "" && t.logins == 1 {
		return secret.New([]byte(t.user)), nil
	}
	s, err := t.p.ask(f.Name, t.user)
	return secret.New([]byte(s)), err
}

// NewPIN implements wire.Prompter.
func (t *person) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	t.pause()
	t.pins++
	if t.pins > 1 {
		if t.pinFile != "" {
			return secret.PIN{}, errPIN
		}
		fmt.Fprintln(t.p.err, "That PIN is too simple, or does not keep the rules; a PIV card takes digits alone.")
	}
	for {
		s, err := t.newPIN(ctx, min, max)
		if err != nil {
			return secret.PIN{}, err
		}
		pin, err := secret.NewPIN(s.Bytes())
		if err == nil {
			err = wire.CheckPIN(pin)
		}
		if err == nil && (pin.Len() < min || pin.Len() > max) {
			err = fmt.Errorf("the PIN has to have %d to %d characters", min, max)
		}
		if err == nil {
			return pin, nil
		}
		if t.pinFile != "" {
			return secret.PIN{}, err
		}
		fmt.Fprintf(t.p.err, "%v.\n", err)
	}
}

func (t *person) newPIN(ctx context.Context, min, max int) (secret.Secret, error) {
	if t.pinFile != "" {
		return t.p.readSecret(t.pinFile)
	}
	return t.p.askNew(ctx, fmt.Sprintf("New PIN (%d to %d characters)", min, max))
}

// Progress implements wire.Prompter.
func (t *person) Progress(percent int, task string) {
	if t.quiet {
		return
	}
	if t.bar == nil {
		if t.bar = newBar(t.p.err); t.bar == nil {
			t.quiet = true
			return
		}
	}
	t.bar.set(percent, station.Task(task))
}

// pause takes the bar away: it would be drawn over the question. The next
// progress makes a new one.
func (t *person) pause() {
	if t.bar != nil {
		t.bar.drop()
		t.bar = nil
	}
}

func (t *person) done() {
	if t.bar != nil {
		t.bar.end()
		t.bar = nil
	}
}

// absolute makes a path that does not depend on the working folder.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
