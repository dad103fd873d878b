package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/seal"
)

// sure asks whether something is meant, unless --yes says so.
func (p *program) sure(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	yes, err := p.confirm(question)
	if err == nil && !yes {
		err = errors.New("nothing was done")
	}
	return err
}

func (p *program) configSeal(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	st, err := sealing.SealStatus(c.Context, folder, false, o)
	if err != nil {
		return p.explained(c, err)
	}
	if st.Phase == string(seal.Sealed) {
		return p.takeIn(c, folder, o)
	}
	d, err := sealing.ReadConfig(c.Context, folder, o)
	if err != nil {
		return err
	}
	var s *sealChoice
	if file := c.String("answers"); file != "" {
		a, err := readSealAnswers(file)
		if err != nil {
			return err
		}
		s, err = p.sealPlan(a, folder, d.Config.HSM.URI)
		if err != nil {
			return p.explained(c, err)
		}
	} else if s, err = p.askSealing(c.Context, folder, d.Config.HSM.URI); err != nil {
		return p.explained(c, err)
	}
	if s == nil {
		return errors.New("nothing was done: secure key storage is not wanted")
	}
	return p.runSeal(c, folder, s)
}

// readSealAnswers reads the table [seal] of an answers file; the rest is init's.
func readSealAnswers(file string) (*sealAnswers, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the answers: %w", err)
	}
	a, err := decodeAnswers(b)
	if err == nil && a.Seal == nil {
		err = fmt.Errorf("%s has no table [seal]", file)
	}
	return a.Seal, err
}

// runSeal seals the folder and says what was done.
func (p *program) runSeal(c *cli.Context, folder string, s *sealChoice) error {
	report, err := sealing.Seal(c.Context, folder, s.plan, s.options(p.options(c, slog.LevelWarn)))
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, report, func(w io.Writer) {
		printReport(w, report)
		fmt.Fprintln(w, "The plain files are overwritten and removed. If this disk is not encrypted, change the secrets that were in them.")
	})
}

func printReport(w io.Writer, r sealing.SealReport) {
	fmt.Fprintf(w, "Sealed under %s", r.Key)
	if r.Token != "" {
		fmt.Fprintf(w, " in token %s", printable(r.Token))
	}
	if r.KCV != "" {
		fmt.Fprintf(w, ", check value %s", r.KCV)
	}
	fmt.Fprintf(w, ", by %s.\n", r.Mechanism)
	printGenerationsOf(w, r.Generations)
}

func printGenerationsOf(w io.Writer, generations map[string]uint64) {
	var roles []string
	for r := range generations {
		roles = append(roles, r)
	}
	slices.Sort(roles)
	for _, r := range roles {
		fmt.Fprintf(w, "  %s generation %d\n", r, generations[r])
	}
}

// takeIn seals a plain configuration that lies beside the sealed one.
func (p *program) takeIn(c *cli.Context, folder string, o server.Options) error {
	if _, err := os.Stat(filepath.Join(folder, sealing.ConfigFile)); errors.Is(err, os.ErrNotExist) {
		return errors.New("the folder is sealed already: inkan config status shows how")
	}
	g, err := sealing.TakeIn(c.Context, folder, o)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.printSaved(c, g)
}

func (p *program) configReseal(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.IsSet("add-slot") || c.IsSet("remove-slot") {
		return p.changeSlots(c)
	}
	plan := sealing.ResealPlan{Recovery: strings.TrimPrefix(c.String("recovery"), "age:")}
	if d := c.String("not-after"); d != "" {
		var err error
		if plan.NotAfter, err = time.ParseInLocation(time.DateOnly, d, time.Local); err != nil {
			return usagef("--not-after %q: write it as 2027-12-31", d)
		}
		plan.NotAfter = plan.NotAfter.AddDate(0, 0, 1)
	}
	out, err := sealing.Reseal(c.Context, c.String("data"), plan, p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintln(w, "Sealed again:")
		printGenerationsOf(w, out)
	})
}

func (p *program) configRecover(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	plan := sealing.RecoverPlan{FromPrev: c.Bool("from-prev"), Accept: c.Uint64("accept-generation"), Role: seal.Role(c.String("role")), PINSource: c.String("pin-source"), Anchor: c.String("anchor")}
	if plan.Anchor != "" && seal.CheckAnchor(plan.Anchor) != nil {
		return usagef("--anchor: %v", seal.CheckAnchor(plan.Anchor))
	}
	var err error
	if module := c.String("module"); module != "" {
		t, err := chooseToken(module, "", c.String("token"), c.String("serial"))
		if err != nil {
			return p.explained(c, err)
		}
		plan.URI = t.URI
		plan.PINSource = defaultString(plan.PINSource, "prompt")
	}
	if file := c.String("identity"); file != "" {
		if plan.Identity, err = p.readIdentity(file); err != nil {
			return err
		}
	} else if c.Bool("recovery-key") {
		if plan.Identity, err = p.askSecret(c.Context, "Recovery key (AGE-SECRET-KEY-…)"); err != nil {
			return err
		}
	}
	if file := c.String("recovery-passphrase-file"); file != "" {
		if plan.Passphrase, err = p.readSecret(file); err != nil {
			return err
		}
	}
	report, err := sealing.Recover(c.Context, c.String("data"), plan, p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, report, func(w io.Writer) { printReport(w, report) })
}

// readIdentity reads an age identity file, comments and all.
func (p *program) readIdentity(file string) (secret.Secret, error) {
	r := p.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return secret.Secret{}, fmt.Errorf("reading the recovery key: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return secret.Secret{}, fmt.Errorf("reading the recovery key: %w", err)
	}
	return secret.New(b), nil
}

func (p *program) configExport(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	to, recipient := c.String("out"), c.String("age-recipient")
	switch {
	case to == "":
		return usagef("%s needs --out: a new file", c.Command.FullName())
	case recipient == "" && !c.Bool("i-understand-plaintext"):
		return usagef("%s writes secrets in the clear: name an --age-recipient, or say --i-understand-plaintext", c.Command.FullName())
	}
	var encrypt func([]byte) ([]byte, error)
	if recipient != "" {
		rs, err := age.ParseRecipients(strings.NewReader(recipient))
		if err != nil {
			return usagef("--age-recipient is no age recipient (age1…)")
		}
		encrypt = func(b []byte) ([]byte, error) { return encryptAge(b, rs) }
	}
	role := seal.Role(c.String("role"))
	if err := sealing.Export(c.Context, c.String("data"), role, absolute(to), encrypt, p.options(c, slog.LevelWarn)); err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, map[string]string{"Role": string(role), "Path": absolute(to)}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is written to %s. That is in the audit record.\n", role, to)
	})
}

func encryptAge(b []byte, to []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(b)
	return out.Bytes(), errors.Join(err, w.Close())
}

func (p *program) configDisable(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	switch c.String("to") {
	case "plain":
		for _, q := range []string{"Secrets of the configuration will lie in the clear in the folder. Go on", "Disable secure key storage"} {
			if err := p.sure(c, q); err != nil {
				return err
			}
		}
		if err := sealing.Disable(c.Context, folder, o); err != nil {
			return p.explained(c, stopped(err))
		}
		return p.print(c, map[string]string{"To": "plain"}, func(w io.Writer) {
			fmt.Fprintln(w, "The files are plain. The sealing key stays in the HSM: backups from before need it.")
		})
	case keyFileModule:
		return p.disableToKeyFile(c, folder, o)
	}
	return usagef("%s needs --to plain or --to keyfile", c.Command.FullName())
}

func (p *program) disableToKeyFile(c *cli.Context, folder string, o server.Options) error {
	var pass secret.Secret
	var err error
	if file := c.String("passphrase-file"); file != "" {
		pass, err = p.readSecret(file)
	} else {
		pass, err = p.askSecret(c.Context, "Passphrase of the key file")
	}
	if err != nil {
		return err
	}
	defer pass.Wipe()
	out, err := sealing.DisableToKeyFile(c.Context, folder, pass, c.String("pin-source"), nil, o)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "Everything is under %s in the key file now. Whoever has the folder and the passphrase has the\n"+
			"configuration; root on this machine, a core dump or a backup of memory does too. The passphrase comes from %s at each start.\n", out.New, c.String("pin-source"))
		printGenerationsOf(w, out.Generations)
	})
}

func (p *program) configAdopt(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	list, err := sealing.AheadOfAnchor(c.Context, folder, o)
	if err != nil {
		return p.explained(c, err)
	}
	if len(list) == 0 {
		return p.print(c, list, func(w io.Writer) { fmt.Fprintln(w, "No file is ahead of the HSM.") })
	}
	for _, a := range list {
		fmt.Fprintf(p.err, "%s is at generation %d, the HSM knows of %d.\n", a.Role, a.Accepted, a.Anchor)
	}
	if err := p.sure(c, "Accept the files"); err != nil {
		return err
	}
	if list, err = sealing.Adopt(c.Context, folder, o); err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, list, func(w io.Writer) { fmt.Fprintf(w, "%d files are accepted.\n", len(list)) })
}

func (p *program) configDestroy(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	if c.Bool("lost") {
		return p.setAside(c, folder, o)
	}
	question := "The sealed configuration will be gone. Go on"
	if c.Bool("with-key") {
		question = "The sealed configuration and its key will be gone, and no backup of it opens any more. Go on"
	}
	if err := p.sure(c, question); err != nil {
		return err
	}
	if err := sealing.Destroy(c.Context, folder, c.Bool("with-key"), o); err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, map[string]bool{"WithKey": c.Bool("with-key")}, func(w io.Writer) {
		fmt.Fprintln(w, "The sealed configuration is gone. Keys of cards, authority and records are as they were.")
	})
}

// setAside takes a configuration out of the way that nothing opens any more.
func (p *program) setAside(c *cli.Context, folder string, o sealing.Options) error {
	if c.Bool("with-key") {
		return usagef("%s takes --lost or --with-key, not both", c.Command.FullName())
	}
	if err := p.sure(c, "The sealed configuration will be set aside, and a new one has to be made. Go on"); err != nil {
		return err
	}
	aside, err := sealing.SetAside(c.Context, folder, o)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, map[string]string{"Aside": aside}, func(w io.Writer) { printAside(w, folder, aside) })
}

func printAside(w io.Writer, folder, aside string) {
	fmt.Fprintf(w, "The sealed files are in %s. Cards, people, certificates and logs are as they were.\n"+
		"Next, a new set-up around them: inkan --data %s init\n", printable(aside), printable(folder))
}
