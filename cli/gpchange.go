package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/cli/manager"
)

// gpResult is what a change prints.
type gpResult struct {
	Result string     `json:"result"`
	AID    string     `json:"aid,omitempty"`
	Gone   []apdu.AID `json:"gone,omitempty"`
	Key    string     `json:"key_version,omitempty"`
	KCVs   []string   `json:"check_values,omitempty"`
}

func (p *program) installGP(c *cli.Context) error {
	i, err := installation(c)
	if err != nil {
		return err
	}
	return p.withManager(c, func(m *manager.Manager) error {
		r, err := m.List(c.Context)
		if err != nil {
			return err
		}
		i, err := i.Complete(r)
		if err != nil {
			return fmt.Errorf("%w; the card was not changed", err)
		}
		if err := m.Install(c.Context, i); err != nil {
			return err
		}
		return p.print(c, gpResult{Result: "installed", AID: i.Instance.String()}, func(w io.Writer) {
			fmt.Fprintf(w, "Applet %v of load file %v (%d bytes) is on the card.\n", i.Instance, i.File.Package, len(i.File.Code()))
		})
	})
}

// installation reads the arguments of gp install.
func installation(c *cli.Context) (i manager.Installation, err error) {
	name, err := oneArgument(c, "FILE")
	if err != nil {
		return i, err
	}
	for flag, to := range map[string]*apdu.AID{"module": &i.Module, "aid": &i.Instance} {
		if s := c.String(flag); s != "" {
			if *to, err = apdu.ParseAID(s); err != nil {
				return i, usageError{err}
			}
		}
	}
	if i.Params, err = hex.DecodeString(c.String("params")); err != nil {
		return i, usagef("--params is not hexadecimal")
	}
	if c.Bool("default") {
		i.Privileges = gp.PrivCardReset
	}
	f, err := os.Open(name)
	if err != nil {
		return i, fmt.Errorf("reading the load file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, loadfile.MaxFile+1))
	if err != nil {
		return i, fmt.Errorf("reading the load file: %w", err)
	}
	if i.File, err = loadfile.Parse(b); err != nil {
		return i, fmt.Errorf("%s: %w", name, err)
	}
	return i, nil
}

// decide asks before something is changed that cannot be had back.
func (p *program) decide(c *cli.Context, question string) error {
	if c.Bool("yes") {
		return nil
	}
	yes, err := p.confirm(question)
	switch {
	case err != nil:
		return fmt.Errorf("%w; --yes answers it. The card was not changed", err)
	case !yes:
		return errors.New("the card was not changed")
	}
	return nil
}

func (p *program) deleteGP(c *cli.Context) error {
	s, err := oneArgument(c, "AID")
	if err != nil {
		return err
	}
	aid, err := apdu.ParseAID(s)
	if err != nil {
		return usageError{err}
	}
	return p.withManager(c, func(m *manager.Manager) error {
		r, err := m.List(c.Context)
		if err != nil {
			return err
		}
		_, related, ok := r.Find(aid)
		if !ok {
			return fmt.Errorf("there is no %v on the card: inkan gp list shows what is", aid)
		}
		var with []apdu.AID
		for _, e := range related {
			with = append(with, e.AID)
		}
		gone := append([]apdu.AID{aid}, with...)
		if err := p.decide(c, fmt.Sprintf("With everything that is in it, this goes off the card%s: %s.\nDelete it", cardName(m), aids(gone))); err != nil {
			return err
		}
		if err := m.Delete(c.Context, aid, with...); err != nil {
			return err
		}
		return p.print(c, gpResult{Result: "deleted", AID: aid.String(), Gone: gone}, func(w io.Writer) { fmt.Fprintf(w, "Deleted %s.\n", aids(gone)) })
	})
}

// cardName tells which card it is, for a question.
func cardName(m *manager.Manager) string {
	if m.CPLC == nil {
		return ""
	}
	return " " + m.CPLC.CUID().String()
}

// changeGP is put-key and lock.
func (p *program) changeGP(c *cli.Context, lock bool) error {
	if err := noArguments(c); err != nil {
		return err
	}
	change := manager.KeyChange{Lock: lock}
	var err error
	for flag, to := range map[string]*gp.KeyVersion{"new-version": &change.Version, "replace": &change.Replace} {
		s := c.String(flag)
		if s == "" {
			continue
		}
		if *to, err = gp.ParseKeyVersion(s); err != nil {
			return usageError{err}
		}
	}
	if change.Version < 1 || change.Version > 0x7F {
		return usagef("%s needs --new-version, 01 to 7F", c.Command.FullName())
	}
	if change.Keys, err = p.cardKeys(c, c.String("new-keys"), "New key"); err != nil {
		return err
	}
	defer change.Keys.Wipe()
	return p.withManager(c, func(m *manager.Manager) error {
		if lock {
			change.Replace = m.Info().KeyVersion
		}
		kcvs, err := m.Check(c.Context, change)
		if err != nil {
			return fmt.Errorf("%w. The card was not changed", err)
		}
		out := gpResult{Result: "done", Key: change.Version.String()}
		for _, k := range kcvs {
			out.KCVs = append(out.KCVs, k.String())
		}
		if err := p.decide(c, fmt.Sprintf("The card%s gets keys of version %v, check values %s%s.\nPut them onto it",
			cardName(m), change.Version, strings.Join(out.KCVs, " "), instead(change))); err != nil {
			return err
		}
		if err := m.Apply(c.Context, change); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "The card has the keys of version %v, check values %s, and was opened under them.\n", change.Version, strings.Join(out.KCVs, " "))
		})
	})
}

// instead says which keys go.
func instead(c manager.KeyChange) string {
	if c.Replace == 0 {
		return ", besides those it has"
	}
	return fmt.Sprintf(", in place of those of version %v: without the new ones nobody opens it again", c.Replace)
}
