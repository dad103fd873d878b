package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/seal"
)

// sealAnswers are the answers to the questions about secure key storage, the table
// [seal] of --answers. A key left out takes its default; recovery has none.
type sealAnswers struct {
	Enable             *bool       `toml:"enable"`              // default true where there is a table
	Module             string      `toml:"module"`              // path of the PKCS#11 module, keyfile or cred:NAME; default: that of the site's HSM
	Token              string      `toml:"token"`               // label; default: the only one
	Serial             string      `toml:"serial"`              // of tokens of one label
	PINSource          string      `toml:"pin_source"`          // file:PATH, cred:NAME, fd:N; prompt is for people
	KeyLabel           string      `toml:"key_label"`           // default: a new key of a new instance
	UseExisting        bool        `toml:"use_existing"`        // the key of that label may be there
	Recovery           string      `toml:"recovery"`            // age:RECIPIENT, passphrase, none
	RecoveryPassphrase string      `toml:"recovery_passphrase"` // file with it
	Anchor             string      `toml:"anchor"`              // hsm, db, file or, in a lab, none; default hsm, with a credential db
	Roles              []seal.Role `toml:"roles"`               // default: all
}

// keyFileModule is the answer for a site without HSM; credentialModule begins the one
// for a secret that the system hands to the service, of a TPM say.
const (
	keyFileModule    = "keyfile"
	credentialModule = "cred:"
)

// sealChoice is what a folder is to be sealed with, and the secrets for it.
type sealChoice struct {
	plan     sealing.SealPlan
	pin      secret.Secret // typed; zero: where the plan says
	recovery secret.Secret // passphrase; zero: none
}

// options gives the secrets to a call.
func (s sealChoice) options(o server.Options) server.Options {
	if !s.pin.IsZero() {
		o.PIN = func(string) (secret.Secret, error) { return s.pin.Clone(), nil }
	}
	if !s.recovery.IsZero() {
		o.Recovery = func() (secret.Secret, error) { return s.recovery.Clone(), nil }
	}
	return o
}

// sealPlan turns answers from a file into a plan. site is the URI of the site's HSM,
// empty for a key file.
func (p *program) sealPlan(a *sealAnswers, folder, site string) (*sealChoice, error) {
	if a == nil || a.Enable != nil && !*a.Enable {
		return nil, nil
	}
	out := &sealChoice{plan: sealing.SealPlan{PINSource: a.PINSource, KeyLabel: a.KeyLabel, UseExisting: a.UseExisting, Roles: a.Roles}}
	if err := a.place(&out.plan, folder, site); err != nil {
		return nil, err
	}
	if out.plan.Anchor = a.Anchor; a.Anchor != "" && seal.CheckAnchor(a.Anchor) != nil {
		return nil, fmt.Errorf("[seal] %w", seal.CheckAnchor(a.Anchor))
	}
	recipient, isAge := strings.CutPrefix(a.Recovery, "age:")
	var err error
	switch {
	case isAge:
		out.plan.Recipient = recipient
		_, err = seal.ForAge(recipient)
	case a.Recovery == seal.RecoveryPassphrase:
		out.plan.Recipient = seal.RecoveryPassphrase
		if a.RecoveryPassphrase == "" {
			return nil, errors.New("[seal] recovery_passphrase is missing: the file that holds it")
		}
		out.recovery, err = p.readSecret(a.RecoveryPassphrase)
	case a.Recovery != "none":
		err = errors.New(`[seal] recovery is missing and has no default: "age:RECIPIENT", "passphrase" or "none"`)
	}
	return out, err
}

// place finds the token.
func (a *sealAnswers) place(plan *sealing.SealPlan, folder, site string) error {
	if name, ok := strings.CutPrefix(a.Module, credentialModule); ok {
		plan.Credential, plan.PINSource = name, ""
		return seal.CheckCredential(name)
	}
	if a.Module == keyFileModule || a.Module == "" && site == "" {
		plan.PINSource = defaultString(plan.PINSource, passphraseSource(folder))
		return nil
	}
	if a.Module == "" {
		_, t, pin, err := sealing.TokenOf(site)
		if err != nil {
			return err
		}
		plan.URI, plan.PINSource = t.URI, defaultString(plan.PINSource, pin)
	} else {
		t, err := chooseToken(a.Module, "", a.Token, a.Serial)
		if err != nil {
			return err
		}
		plan.URI = t.URI
	}
	if plan.PINSource == "" {
		return errors.New("[seal] pin_source is missing and has no default here: file:PATH, cred:NAME or fd:N")
	}
	return nil
}

func defaultString(s, byDefault string) string {
	if s == "" {
		return byDefault
	}
	return s
}

// chooseToken finds the one token that is meant.
func chooseToken(module, reserved, label, serial string) (sealing.Token, error) {
	all, err := sealing.Tokens(module, reserved)
	if err != nil {
		return sealing.Token{}, err
	}
	var found []sealing.Token
	var names []string
	for _, t := range all {
		names = append(names, fmt.Sprintf("%s (serial %s)", t.Label, t.Serial))
		if (label == "" || t.Label == label) && (serial == "" || t.Serial == serial) {
			found = append(found, t)
		}
	}
	if len(found) != 1 {
		return sealing.Token{}, fmt.Errorf("%d tokens of %s are meant, want one: there are %s", len(found), module, strings.Join(names, ", "))
	}
	return found[0], nil
}

// askSealing is the dialogue of config-sealing.md §10. nil: not wanted.
func (p *program) askSealing(ctx context.Context, folder, site string) (*sealChoice, error) {
	if yes, err := p.confirm("Configure secure key storage"); err != nil || !yes {
		if err == nil {
			fmt.Fprintln(p.err, "The configuration stays a plain file that only its owner may read.")
		}
		return nil, err
	}
	s := &sealChoice{}
	for _, step := range []func() error{
		func() error { return p.askPlace(ctx, s, folder, site) },
		func() error { return p.askKey(s) },
		func() error { return p.askRecovery(ctx, s) },
		func() error { return p.askAnchor(s) },
		func() error { return p.askRoles(s) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	a, err := p.ask("Enable secure key storage (Y/n)", "")
	if a = strings.ToLower(a); err != nil || a != "" && a != "y" && a != "yes" {
		return nil, err
	}
	return s, nil
}

// askPlace asks for module, token and PIN. A token with a PIN that is nearly used up
// says so before anybody types.
func (p *program) askPlace(ctx context.Context, s *sealChoice, folder, site string) error {
	byDefault, t, pinSource := keyFileModule, sealing.Token{}, ""
	var err error
	if site != "" {
		if byDefault, t, pinSource, err = sealing.TokenOf(site); err != nil {
			return err
		}
	} else if found := sealing.Modules(); len(found) > 0 {
		byDefault = found[0]
		fmt.Fprintf(p.err, "PKCS#11 modules on this machine: %s\n", strings.Join(found, ", "))
	}
	module, err := p.ask("PKCS#11 module, or "+keyFileModule+" for the encrypted key file, "+credentialModule+"NAME for a systemd credential", byDefault)
	if err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(module, credentialModule); ok {
		s.plan.Credential = name
		return seal.CheckCredential(name)
	}
	what := "PIN of the token"
	if module == keyFileModule {
		what = "Passphrase of the key file"
		t, pinSource = sealing.Token{}, passphraseSource(folder)
		fmt.Fprintln(p.err, "The key file is in this folder: whoever has the folder and its passphrase has the configuration.")
	} else if t, err = p.askToken(module, t.Reserved, t.Label); err != nil {
		return err
	}
	s.plan.URI = t.URI
	if s.plan.PINSource, err = p.ask("Where the node gets the PIN (prompt, file:PATH, cred:NAME, fd:N)", defaultString(pinSource, "prompt")); err != nil {
		return err
	}
	if err := seal.CheckPINSource(s.plan.PINSource); err != nil {
		return err
	}
	if s.plan.PINSource == "prompt" {
		s.pin, err = p.askSecret(ctx, what)
	}
	return err
}

// passphraseSource is where the passphrase of a folder's key file comes from: the
// folder, which init leaves it in, or somebody who types it.
func passphraseSource(folder string) string {
	path := filepath.Join(folder, sealing.PassphraseFile)
	_, keys := os.Stat(filepath.Join(folder, filepath.FromSlash(sealing.KeyFile)))
	if _, err := os.Stat(path); keys == nil && errors.Is(err, os.ErrNotExist) {
		return "prompt"
	}
	return "file:" + absolute(path)
}

func (p *program) askToken(module, reserved, byDefault string) (sealing.Token, error) {
	all, err := sealing.Tokens(module, reserved)
	if err != nil {
		return sealing.Token{}, err
	}
	for _, t := range all {
		fmt.Fprintf(p.err, "  %s, serial %s, %s\n", printable(t.Label), printable(t.Serial), printable(t.Model))
	}
	label, err := p.ask("Token", defaultString(byDefault, all[0].Label))
	if err != nil {
		return sealing.Token{}, err
	}
	serial := ""
	if twins := slices.DeleteFunc(slices.Clone(all), func(t sealing.Token) bool { return t.Label != label }); len(twins) > 1 {
		if serial, err = p.ask("Serial number of the token", twins[0].Serial); err != nil {
			return sealing.Token{}, err
		}
	}
	t, err := chooseToken(module, reserved, label, serial)
	if err == nil && t.PINState != "" {
		fmt.Fprintf(p.err, "Token %s: %s.\n", printable(t.Label), t.PINState)
	}
	return t, err
}

func (p *program) askKey(s *sealChoice) (err error) {
	if s.plan.Credential != "" {
		return nil
	}
	if s.plan.KeyLabel, err = p.ask("Label of the sealing key, empty for a new one of this instance", ""); err != nil || s.plan.KeyLabel == "" {
		return err
	}
	s.plan.UseExisting, err = p.confirm("If that key exists, use it")
	return err
}

// askRecovery makes a recovery key, or takes one.
func (p *program) askRecovery(ctx context.Context, s *sealChoice) error {
	a, err := p.ask("Recovery without the HSM: age for a new recovery key, an age recipient, passphrase, or none", "age")
	if err != nil {
		return err
	}
	switch a {
	case "none":
		yes, err := p.ask("Without recovery a lost HSM means a new configuration. Type none again", "")
		if err == nil && yes != "none" {
			err = errors.New("recovery is not chosen")
		}
		return err
	case seal.RecoveryPassphrase:
		s.plan.Recipient = seal.RecoveryPassphrase
		fmt.Fprintln(p.err, "Every change of the configuration will ask for it.")
		s.recovery, err = p.askNew(ctx, "Recovery passphrase")
		return err
	case "age":
		return p.makeRecoveryKey(s)
	}
	s.plan.Recipient = strings.TrimPrefix(a, "age:")
	_, err = seal.ForAge(s.plan.Recipient)
	return err
}

// makeRecoveryKey shows the new identity once, and has its end typed back.
func (p *program) makeRecoveryKey(s *sealChoice) error {
	identity, recipient, err := seal.NewRecoveryKey()
	if err != nil {
		return err
	}
	defer identity.Wipe()
	fmt.Fprintf(p.err, "The recovery key, shown this once. Write it down and keep it away from this machine:\n\n  %s\n\n", identity.Bytes())
	const tail = 8
	for range 3 {
		a, err := p.ask(fmt.Sprintf("Its last %d characters", tail), "")
		if err != nil {
			return err
		}
		typed, end := secret.New([]byte(strings.ToUpper(a))), secret.New(identity.Bytes()[identity.Len()-tail:])
		if typed.Equal(end) {
			s.plan.Recipient = recipient
			return nil
		}
		fmt.Fprintln(p.err, "That is not its end.")
	}
	return errors.New("the recovery key was not written down")
}

func (p *program) askAnchor(s *sealChoice) error {
	choices, byDefault := "hsm, db, file", seal.AnchorHSM
	if s.plan.Credential != "" {
		choices, byDefault = "db, file", seal.AnchorDB
	}
	a, err := p.ask("Where old files are noticed that somebody puts back ("+choices+"; none in a lab)", byDefault)
	if err != nil {
		return err
	}
	s.plan.Anchor = a
	return seal.CheckAnchor(a)
}

func (p *program) askRoles(s *sealChoice) error {
	var all []string
	for _, r := range sealing.Roles() {
		all = append(all, string(r))
	}
	a, err := p.ask("Files to seal", strings.Join(all, " "))
	for _, r := range strings.Fields(a) {
		s.plan.Roles = append(s.plan.Roles, seal.Role(r))
	}
	return err
}
