package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tps/api"
)

func (p *program) keysetCommand() *cli.Command {
	return &cli.Command{
		Name:  "keyset",
		Usage: "master keys that the keys of cards are derived from",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list key sets and their versions", Description: "   inkan keyset list\n   inkan keyset list --json",
				Action: p.listKeySets,
			},
			{
				Name: "create", Usage: "make a new master key", ArgsUsage: "NAME",
				Description: "Makes a master key in the HSM or key file. The keys of each card are derived from it. A profile names\n" +
					"the set and version that its cards get. Versions are two hexadecimal digits, as cards show them.\n\n" +
					"   inkan keyset create site --version 03 --type aes-256\n   inkan keyset create site --version 04 --type des3 --kdf emv",
				Flags:  newKeySetFlags(),
				Action: p.createKeySet,
			},
			p.importCommand(),
			{
				Name: "test", Usage: "derive the keys of a test card and use them", ArgsUsage: "NAME VERSION",
				Description: "   inkan keyset test site 02", Action: p.testKeySet,
			},
			{
				Name: "retire", Usage: "give a version to no new card", ArgsUsage: "NAME VERSION",
				Description: "The key is kept: cards that have the version go on working and can be moved to another one.\n\n   inkan keyset retire site 02",
				Action:      p.retireKeySet,
			},
			{
				Name: "backup", Usage: "write an encrypted copy of the key file elsewhere and check it",
				Description: "Writes a copy under a passphrase of its own and restores one key of it. With an HSM it says what the\n" +
					"vendor's backup must hold. A lost master key locks every card for ever.\n\n" +
					"   inkan keyset backup --to /media/safe/inkan-keys\n   inkan keyset backup --to /media/safe/inkan-keys --passphrase-file secret.txt",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "to", Usage: "`FILE` of the copy, on another medium; it must not exist"},
					&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with the passphrase of the copy, - for standard input"},
				},
				Action: p.backupKeys,
			},
		},
	}
}

func (p *program) listKeySets(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.KeySet]
		if err := r.get(c.Context, "/keysets", nil, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) { printKeySets(w, l.Entries) })
	})
}

func printKeySets(w io.Writer, sets []api.KeySet) {
	if len(sets) == 0 {
		fmt.Fprintln(w, "There is no key set. Make one: inkan keyset create NAME --version 02")
		return
	}
	table(w, "NAME\tVERSION\tTYPE\tKDF\tKCV\tLEVEL\tORIGIN\tCREATED\tSTATE", len(sets), func(i int) string {
		s := sets[i]
		name, state := s.Name, "in use"
		if s.Slot != "" {
			name += " (" + s.Slot + ")"
		}
		if s.Retired {
			state = "retired"
		}
		return strings.Join([]string{name, s.Version, s.Type, s.KDF, s.KCV, s.Level, s.Origin, dash(day(s.Created)), state}, "\t")
	})
	printLevels(w, sets)
}

// printLevels says, once for all key sets whom it concerns, what keeps a protection
// level from being a better one.
func printLevels(w io.Writer, sets []api.KeySet) {
	type reason struct{ level, why string }
	var order []reason
	names := map[reason][]string{}
	for _, s := range sets {
		r, name := reason{s.Level, s.Why}, s.Name+" "+s.Version
		switch {
		case s.Why == "" || slices.Contains(names[r], name):
			continue
		case names[r] == nil:
			order = append(order, r)
		}
		names[r] = append(names[r], name)
	}
	for _, r := range order {
		fmt.Fprintf(w, "Level %s of %s: %s.\n", r.level, strings.Join(names[r], ", "), r.why)
	}
}

// keySetArguments reads NAME VERSION.
func keySetArguments(c *cli.Context) (tks.KeySetName, gp.KeyVersion, error) {
	if c.NArg() != 2 {
		return "", 0, usagef("%s takes two arguments: NAME VERSION", c.Command.FullName())
	}
	return parseKeySet(c.Args().Get(0), c.Args().Get(1))
}

func parseKeySet(name, version string) (tks.KeySetName, gp.KeyVersion, error) {
	n, err := tks.ParseKeySetName(name)
	if err != nil {
		return "", 0, usageError{err}
	}
	if len(version) == 1 {
		version = "0" + version
	}
	v, err := gp.ParseKeyVersion(version)
	if err != nil {
		return "", 0, usageError{err}
	}
	return n, v, nil
}

// newKeySetFlags describe a key set that is to be.
func newKeySetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "version", Usage: "key version `N`, 01 to 7F"},
		&cli.StringFlag{Name: "type", Usage: "`TYPE`: aes-128, aes-192, aes-256, des2, des3", Value: "aes-128"},
		&cli.StringFlag{Name: "kdf", Usage: "`NAME` of the diversification: kdf3, gpkmc, visa2, emv, visa, none, dogtag-sp800-108, dogtag-prot3-emv, " +
			"dogtag-prot3-visa2; piv for the management keys and PUKs of PIV applets; +cuid behind it where the CUID stands for the card's diversification data (default: kdf3 for AES, visa2 for DES)"},
	}
}

// newKeySet reads NAME and the flags of newKeySetFlags.
func newKeySet(c *cli.Context) (api.NewKeySet, error) {
	name, err := oneArgument(c, "NAME")
	if err != nil {
		return api.NewKeySet{}, err
	}
	if c.String("version") == "" {
		return api.NewKeySet{}, usagef("%s needs --version", c.Command.FullName())
	}
	n, v, err := parseKeySet(name, c.String("version"))
	if err != nil {
		return api.NewKeySet{}, err
	}
	return api.NewKeySet{Name: string(n), Version: v.String(), Type: c.String("type"), KDF: c.String("kdf")}, nil
}

func (p *program) createKeySet(c *cli.Context) error {
	in, err := newKeySet(c)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var s api.KeySet
		if err := r.post(c.Context, "/keysets", in, &s); err != nil {
			return err
		}
		return p.print(c, s, func(w io.Writer) {
			fmt.Fprintf(w, "Key set %s version %s is made: %s, check value %s.\nNo backup holds it yet: inkan keyset backup\n", s.Name, s.Version, s.Type, s.KCV)
			printLevels(w, []api.KeySet{s})
		})
	})
}

// keySetResult is what a command on one version prints.
type keySetResult struct {
	Name    string `json:"Name"`
	Version string `json:"Version"`
	Result  string `json:"Result"`
}

func (p *program) testKeySet(c *cli.Context) error {
	return p.changeKeySet(c, "test", "passed", "Key set %s version %s works: the keys of a test card were derived, it proved itself, and was given new keys.\n")
}

func (p *program) retireKeySet(c *cli.Context) error {
	return p.changeKeySet(c, "retire", "retired", "Key set %s version %s is retired: no new card gets it. Cards that have it go on working.\n")
}

func (p *program) changeKeySet(c *cli.Context, action, result, text string) error {
	n, v, err := keySetArguments(c)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		path := "/keysets/" + url.PathEscape(string(n)) + "/" + v.String() + "/" + action
		if err := r.call(c.Context, request{method: http.MethodPost, path: path}); err != nil {
			return err
		}
		return p.print(c, keySetResult{string(n), v.String(), result}, func(w io.Writer) { fmt.Fprintf(w, text, n, v) })
	})
}

func (p *program) backupKeys(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var b api.Backup
		if err := r.get(c.Context, "/key-backup", nil, &b); err != nil {
			return err
		}
		if b.Kind == "hsm" {
			return p.print(c, b, func(w io.Writer) { printHSMBackup(w, b) })
		}
		return p.writeBackup(c, r)
	})
}

func printHSMBackup(w io.Writer, b api.Backup) {
	fmt.Fprintf(w, "The keys are in the HSM %s.\nIts vendor's backup must hold these objects, each with its label, its CKA_ID and its attributes:\n", b.Token)
	for _, k := range b.Keys {
		fmt.Fprintf(w, "  %s\n", k)
	}
	fmt.Fprintln(w, "Restore it into another token once and try it there: inkan keyset test. A lost master key locks every card for ever.")
}

func (p *program) writeBackup(c *cli.Context, r rest) error {
	to := c.String("to")
	if to == "" {
		return usagef("%s needs --to: a file on another disk or medium", c.Command.FullName())
	}
	pass, err := p.newSecretFrom(c, "passphrase-file", "Passphrase of the copy")
	if err != nil {
		return err
	}
	defer pass.Wipe()
	body, err := api.EncodeSecret(api.BackupRequest{Path: absolute(to)}, "passphrase", pass)
	if err != nil {
		return err
	}
	var b api.Backup
	if err := r.call(c.Context, request{method: http.MethodPost, path: "/key-backup", body: body, out: &b}); err != nil {
		return err
	}
	return p.print(c, b, func(w io.Writer) {
		fmt.Fprintf(w, "%d keys were copied to %s, encrypted. %s was restored from the copy and is the same.\n"+
			"Keep the copy and its passphrase apart from each other and from this machine.\nA lost master key locks every card for ever.\n", len(b.Keys), b.Path, b.Checked)
	})
}
