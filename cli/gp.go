package cli

import (
	"context"
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
	"inkan/cli/station"
)

func (p *program) gpCommand() *cli.Command {
	card := []cli.Flag{
		&cli.StringFlag{Name: "reader", Usage: "`NAME` of the PC/SC reader, or the beginning of it"},
		&cli.StringFlag{Name: "sim", Usage: "image `FILE` of a software card"},
		&cli.StringFlag{Name: "keys", Usage: "the card's keys: factory (the published ones), or a `FILE`; default: asked for"},
		&cli.StringFlag{Name: "key-version", Usage: "version `N` of the card's keys, two hexadecimal digits; default: the card's choice"},
		&cli.StringFlag{Name: "manager", Usage: "`AID` of the card manager; default: what the card selects by itself"},
	}
	with := func(more ...cli.Flag) []cli.Flag { return append(more, card...) }
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	newKeys := &cli.StringFlag{Name: "new-keys", Usage: "`FILE` with the new keys; default: asked for"}
	return &cli.Command{
		Name:  "gp",
		Usage: "the card manager of any GlobalPlatform card, by hand",
		Description: "Works on the card alone, without a server and without its records: a card that Inkan looks after is changed\n" +
			"by the operations of inkan card. The card says whether it speaks SCP02 or SCP03.\n\n" +
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

// gpEntry is one line of the registry.
type gpEntry struct {
	Kind       string     `json:"kind"` // domain, application, load file
	AID        apdu.AID   `json:"aid"`
	State      string     `json:"state"`
	Privileges string     `json:"privileges,omitempty"`
	LoadFile   string     `json:"load_file,omitempty"`
	Version    string     `json:"version,omitempty"`
	Modules    []apdu.AID `json:"modules,omitempty"`
}

// gpList is what gp list prints.
type gpList struct {
	CUID     string    `json:"cuid,omitempty"`
	Manager  apdu.AID  `json:"card_manager"`
	Protocol string    `json:"protocol"`
	Keys     []string  `json:"keys"`
	Entries  []gpEntry `json:"entries"`
}

func (p *program) listGP(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withManager(c, func(m *manager.Manager) error {
		r, err := m.List(c.Context)
		if err != nil {
			return err
		}
		l := describeRegistry(m, r)
		return p.print(c, l, func(w io.Writer) { printRegistry(w, l) })
	})
}

func describeRegistry(m *manager.Manager, r manager.Registry) gpList {
	iu := m.Info()
	l := gpList{Manager: m.AID, Keys: []string{},
		Protocol: fmt.Sprintf("%v i=%v, level %v, keys of version %v", iu.Protocol, iu.Option, m.Level(), iu.KeyVersion)}
	if m.CPLC != nil {
		l.CUID = m.CPLC.CUID().String()
	}
	for _, k := range r.Keys {
		l.Keys = append(l.Keys, fmt.Sprintf("version %v, id %d: %s, %d bits", k.KVN, k.KID, k.Type, 8*k.Length))
	}
	if r.Domain.AID.Len() > 0 {
		l.Entries = append(l.Entries, describeEntry("domain", r.Domain, cardState))
	}
	for _, e := range r.Applications {
		l.Entries = append(l.Entries, describeEntry("application", e, applicationState))
	}
	for _, e := range r.LoadFiles {
		l.Entries = append(l.Entries, describeEntry("load file", e, fileState))
	}
	return l
}

func describeEntry(kind string, e gp.RegistryEntry, state func(gp.LifeCycle) string) gpEntry {
	out := gpEntry{Kind: kind, AID: e.AID, State: state(e.LifeCycle), Modules: e.Modules}
	if e.Privileges != 0 {
		out.Privileges = strings.ToUpper(hex.EncodeToString(e.Privileges.Bytes()))
	}
	if e.LoadFile.Len() > 0 {
		out.LoadFile = e.LoadFile.String()
	}
	if len(e.Version) == 2 {
		out.Version = fmt.Sprintf("%d.%d", e.Version[0], e.Version[1])
	}
	return out
}

// States of the card, by name (GlobalPlatform 2.3.1 §11.1.1).
func cardState(l gp.LifeCycle) string {
	return stateName(l, map[gp.LifeCycle]string{gp.CardOPReady: "OP_READY", gp.CardInitialized: "INITIALIZED", gp.CardSecured: "SECURED",
		gp.CardLocked: "CARD_LOCKED", gp.CardTerminated: "TERMINATED"})
}

func applicationState(l gp.LifeCycle) string {
	if l&gp.LockedBit != 0 {
		return "LOCKED"
	}
	return stateName(l, map[gp.LifeCycle]string{gp.AppInstalled: "INSTALLED", gp.AppSelectable: "SELECTABLE"})
}

func fileState(l gp.LifeCycle) string {
	return stateName(l, map[gp.LifeCycle]string{gp.FileLoaded: "LOADED"})
}

func stateName(l gp.LifeCycle, names map[gp.LifeCycle]string) string {
	if n, ok := names[l]; ok {
		return n
	}
	return l.String()
}

func printRegistry(w io.Writer, l gpList) {
	field(w, "CUID", l.CUID)
	field(w, "Card manager", l.Manager.String())
	field(w, "Channel", l.Protocol)
	for _, k := range l.Keys {
		field(w, "Key", k)
	}
	fmt.Fprintln(w)
	table(w, "KIND\tAID\tSTATE\tPRIVILEGES\tFROM\tVERSION\tMODULES", len(l.Entries), func(i int) string {
		e := l.Entries[i]
		return strings.Join([]string{e.Kind, e.AID.String(), e.State, dash(e.Privileges), dash(e.LoadFile), dash(e.Version), dash(aids(e.Modules))}, "\t")
	})
}

func aids(list []apdu.AID) string {
	var s []string
	for _, a := range list {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

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
		gone := []apdu.AID{aid}
		for _, e := range related {
			gone = append(gone, e.AID)
		}
		if err := p.decide(c, fmt.Sprintf("With everything that is in it, this goes off the card%s: %s.\nDelete it", cardName(m), aids(gone))); err != nil {
			return err
		}
		extent := gp.ObjectOnly
		if len(related) > 0 {
			extent = gp.WithRelated
		}
		if err := m.Delete(c.Context, aid, extent); err != nil {
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
