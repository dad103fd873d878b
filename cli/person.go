package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

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
	dry                   bool // of a dry run: the card's PIN is nobody's business
	bar                   *bar
	logins, pins          int
}

// Login implements wire.Prompter. Answers out of files are given once.
func (t *person) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	t.pause()
	if slices.ContainsFunc(f.Fields, func(q auth.Field) bool { return q.ID == tps.FieldCardPIN }) {
		if t.dry {
			return nil, fmt.Errorf("the server asks for the card's PIN: %w", wire.ErrDryRun)
		}
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
