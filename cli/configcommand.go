package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/seal"
)

func (p *program) configCommand() *cli.Command {
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask whether it is meant"}
	recovery := &cli.StringFlag{Name: "recovery-passphrase-file", Usage: "`FILE` with the recovery passphrase, where one recovers the folder"}
	return &cli.Command{
		Name:  "config",
		Usage: "the configuration of a node, plain or sealed by an HSM key",
		Description: "A sealed configuration is encrypted on the disk under a key that the HSM holds, and opened to memory only.\n" +
			"Changes need the node to be stopped, and count from its next start.",
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "say how the folder is sealed",
				Description: "Needs no PIN, except with --probe, which tries the key, the files and their generations.\n\n   inkan config status\n   inkan config status --probe --json",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "probe", Usage: "log in to the HSM and open every file"}}, Action: p.configStatus},
			{Name: "show", Usage: "print the configuration", Description: "   inkan config show\n   inkan config show --effective",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "effective", Usage: "with every default"}}, Action: p.configShow},
			{Name: "set", ArgsUsage: "SECTION.NAME=VALUE...", Usage: "change keys of the configuration",
				Description: "   inkan config set tps.sweep_every=2m\n   inkan config set listen.names='[\"tps.example.org\"]' ca.organization=Example", Flags: []cli.Flag{recovery}, Action: p.configSet},
			{Name: "move-database", Usage: "move the records from the folder's file to PostgreSQL",
				Description: "For a site that grows to several nodes: copies every record of the SQLite file into an empty PostgreSQL database, in\n" +
					"one transaction that is checked, and has the configuration name that. The file stays and is used no more.\n\n" +
					"   inkan config move-database --url postgres://inkan@db.example.org/inkan --password-file /etc/inkan/db-password",
				Flags: []cli.Flag{&cli.StringFlag{Name: "url", Usage: "`URL` of the database: postgres://user@host/database"},
					&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password of its user; it is read at each start"}, recovery}, Action: p.configMoveDatabase},
			{Name: "edit", Usage: "change the configuration in an editor",
				Description: "Starts $VISUAL or $EDITOR on a copy in memory (a tmpfs) and takes in what it saves.\n\n   inkan config edit",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "plaintext-on-disk", Usage: "let the copy be on a disk where there is no tmpfs"}, recovery}, Action: p.configEdit},
			{Name: "check", Usage: "open and check everything, change nothing", Description: "   inkan config check", Action: p.configCheck},
			{Name: "seal", Usage: "seal a plain folder, or take in a plain inkan.toml beside the sealed one",
				Description: "Asks the questions of init about secure key storage. The answers are those of init --answers, table [seal].\n\n   inkan config seal\n   inkan config seal --answers answers.toml",
				Flags:       []cli.Flag{&cli.StringFlag{Name: "answers", Usage: "TOML `FILE` with the answers: nothing is asked"}, recovery}, Action: p.configSeal},
			{Name: "reseal", Usage: "write every sealed file again",
				Description: "New data keys and the next generations; another recovery slot with --recovery.\n\n   inkan config reseal\n   inkan config reseal --recovery age:age1…\n   inkan config reseal --not-after 2027-12-31\n\n" +
					"A second HSM, a token for disasters, or a credential of the system that is to open the files too is added\n" +
					"as a key slot, and taken away again; the last slot, and the last one in an HSM, stay.\n\n" +
					"   inkan config reseal --add-slot 'pkcs11:token=dr?module-path=/usr/lib/softhsm/libsofthsm2.so' --slot-pin-source file:/etc/inkan/dr-pin\n" +
					"   inkan config reseal --add-slot cred:inkan-seal\n   inkan config reseal --remove-slot dr",
				Flags: []cli.Flag{&cli.StringFlag{Name: "recovery", Usage: "`SLOT`: age:RECIPIENT, passphrase or none"},
					&cli.StringFlag{Name: "not-after", Usage: "refuse to open after `DATE`"},
					&cli.StringFlag{Name: "add-slot", Usage: "seal for `PLACE` too: a pkcs11: URI, or cred:NAME"},
					&cli.StringFlag{Name: "slot-pin-source", Usage: "`SOURCE` of its PIN: prompt, file:PATH, cred:NAME, fd:N"},
					&cli.StringFlag{Name: "remove-slot", Usage: "seal without `PLACE`: the label of a token, its URI, or cred:NAME"}, recovery}, Action: p.configReseal},
			{Name: "rotate-key", Usage: "make a new sealing key in the HSM and move every file to it",
				Description: "At any moment one of the two keys opens everything: run it again after a cut. The old key stays, for backups, until\n" +
					"--retire-old destroys it: not while a backup needs it (inkan backup list), and not before everything has opened without it.\n\n" +
					"   inkan config rotate-key\n   inkan config rotate-key --retire-old\n   inkan config rotate-key --retire-only",
				Flags: []cli.Flag{recovery, &cli.BoolFlag{Name: "retire-old", Usage: "then destroy the keys that no backup needs"},
					&cli.BoolFlag{Name: "retire-only", Usage: "destroy the keys that were replaced before and that no backup needs, make none"}, yes}, Action: p.configRotate},
			{Name: "recover", Usage: "open with the recovery key, or go back, and seal anew",
				Description: "For a lost HSM, a lost key, a lost or old file. What is opened is sealed under a key of the token, made if need be.\n\n" +
					"   inkan config recover --identity key.txt\n   inkan config recover --identity key.txt --module /usr/lib/softhsm/libsofthsm2.so --token new --pin-source file:/etc/inkan/pin\n" +
					"   inkan config recover --from-prev\n   inkan config recover --accept-generation 7\n   inkan config recover --anchor file",
				Flags: []cli.Flag{&cli.StringFlag{Name: "identity", Usage: "`FILE` with the age identity, - for standard input; asked for with --recovery-key"},
					&cli.BoolFlag{Name: "recovery-key", Usage: "ask for the age identity"}, recovery,
					&cli.StringFlag{Name: "module", Usage: "PKCS#11 module `PATH` of another HSM"}, &cli.StringFlag{Name: "token", Usage: "its token `LABEL`"},
					&cli.StringFlag{Name: "serial", Usage: "its `SERIAL` number"}, &cli.StringFlag{Name: "pin-source", Usage: "`SOURCE`: prompt, file:PATH, cred:NAME, fd:N"},
					&cli.StringFlag{Name: "anchor", Usage: "keep generations in `ANCHOR` from now on: hsm, db or file; the old anchor is not asked"},
					&cli.BoolFlag{Name: "from-prev", Usage: "go back one generation where a file is missing or damaged"},
					&cli.Uint64Flag{Name: "accept-generation", Usage: "take generation `N` though a newer one was written"},
					&cli.StringFlag{Name: "role", Value: string(sealing.RoleConfig), Usage: "the `FILE` whose generation is meant"}}, Action: p.configRecover},
			{Name: "export", Usage: "write the plain text to a file",
				Description: "   inkan config export --out config.age --age-recipient age1…\n   inkan config export --out /run/user/0/inkan.toml --i-understand-plaintext",
				Flags: []cli.Flag{&cli.StringFlag{Name: "out", Usage: "new `FILE`"}, &cli.BoolFlag{Name: "i-understand-plaintext", Usage: "who has the file has its secrets"},
					&cli.StringFlag{Name: "age-recipient", Usage: "encrypt for `RECIPIENT`"},
					&cli.StringFlag{Name: "role", Value: string(sealing.RoleConfig), Usage: "the `FILE` to export"}}, Action: p.configExport},
			{Name: "disable", Usage: "go back to plain files, or to the key file",
				Description: "   inkan config disable --to plain\n   inkan config disable --to keyfile",
				Flags: []cli.Flag{&cli.StringFlag{Name: "to", Usage: "`PLACE`: plain or keyfile"}, yes, recovery,
					&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with the key file's passphrase"},
					&cli.StringFlag{Name: "pin-source", Value: "prompt", Usage: "`SOURCE` of the key file's passphrase at each start"}}, Action: p.configDisable},
			{Name: "adopt", Usage: "accept files that are ahead of the HSM", Description: "For an HSM that was restored from an old backup.\n\n   inkan config adopt",
				Flags: []cli.Flag{yes}, Action: p.configAdopt},
			{Name: "destroy", Usage: "remove the sealed files and their generations",
				Description: "With --lost nothing is opened, for an HSM or key that is gone and recovery with it: the sealed files go into a\n" +
					"folder of their own, and inkan init prepares the rest anew; cards, people, certificates and logs stay.\n\n" +
					"   inkan config destroy\n   inkan config destroy --with-key\n   inkan config destroy --lost",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "with-key", Usage: "the key in the HSM too: no backup opens any more"},
					&cli.BoolFlag{Name: "lost", Usage: "the key is lost: set the sealed files aside"}, yes}, Action: p.configDestroy},
		},
	}
}

// options are what commands give to the server room.
func (p *program) options(c *cli.Context, level slog.Level) server.Options {
	return server.Options{
		Log: p.logger(c, level), Passphrase: p.askPassphrase, Program: version(),
		PIN: func(what string) (secret.Secret, error) { return p.askSecret(context.Background(), what) },
		Recovery: func() (secret.Secret, error) {
			if file := c.String("recovery-passphrase-file"); file != "" {
				return p.readSecret(file)
			}
			return p.askSecret(context.Background(), "Recovery passphrase")
		},
	}
}

// explained says in --json what failed: code, number, next action.
func (p *program) explained(c *cli.Context, err error) error {
	var e *seal.Error
	if err == nil || !isSet(c, "json") || !errors.As(err, &e) {
		return err
	}
	enc := json.NewEncoder(p.err)
	enc.SetIndent("", "  ")
	return errors.Join(reported{err}, enc.Encode(map[string]any{
		"Code": e.Code, "Number": e.Code.Number(), "Role": e.Role, "Error": err.Error(), "Next": e.Next(),
	}))
}

// stopped adds what to do where the node runs.
func stopped(err error) error {
	if errors.Is(err, server.ErrInUse) {
		return fmt.Errorf("%w: stop the node (inkan serve), make the change, and start it again", err)
	}
	return err
}

func (p *program) configStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	st, err := sealing.SealStatus(c.Context, c.String("data"), c.Bool("probe"), p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, err)
	}
	return p.print(c, st, func(w io.Writer) { printStatus(w, st) })
}

func printStatus(w io.Writer, st sealing.Status) {
	if st.Phase == "plain" {
		fmt.Fprintln(w, "The folder is not sealed: inkan config seal does that.")
		return
	}
	field(w, "State", st.Phase)
	field(w, "Instance", st.Instance)
	field(w, "Key", st.Key)
	field(w, "In", st.Place)
	field(w, "And in", strings.Join(st.Slots, ", "))
	field(w, "Check value", st.KCV)
	field(w, "PIN from", st.PINSource)
	field(w, "Recovery", defaultString(st.Recovery, "none: a lost HSM means a new configuration"))
	field(w, "Anchor", st.Anchor)
	field(w, "HSM", st.HSM)
	table(w, "FILE\tGENERATION\tSEALED\tKEY SLOTS\tSTATE", len(st.Files), func(i int) string {
		f := st.Files[i]
		at, state := "-", "not made yet"
		if f.SealedAt != nil {
			at, state = f.SealedAt.Format(time.DateTime), "there"
		}
		if f.Opens {
			state = "opens"
		}
		if f.Code != "" {
			state = fmt.Sprintf("%s (%d)", f.Code, f.Number)
		} else if f.Error != "" {
			state = f.Error
		}
		return fmt.Sprintf("%s\t%d\t%s\t%s\t%s", f.Role, f.Generation, at, dash(strings.Join(f.Slots, "; ")), state)
	})
	for _, f := range st.Files {
		if f.Error != "" {
			fmt.Fprintln(w, printable(f.Error))
		}
	}
}

func (p *program) configShow(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	d, err := sealing.ReadConfig(c.Context, c.String("data"), p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, err)
	}
	if c.Bool("effective") {
		if d.Text, err = d.Config.Encode(); err != nil {
			return err
		}
	}
	return p.print(c, map[string]any{"Generation": d.Generation, "Document": string(d.Text)}, func(w io.Writer) { w.Write(d.Text) })
}

// saved is the result of a change.
type saved struct {
	Generation uint64 `json:"Generation"`
}

func (p *program) printSaved(c *cli.Context, g uint64) error {
	return p.print(c, saved{g}, func(w io.Writer) {
		if g == 0 {
			fmt.Fprintln(w, "The configuration is written. It counts from the next start of the node.")
			return
		}
		fmt.Fprintf(w, "The configuration is sealed, generation %d. It counts from the next start of the node.\n", g)
	})
}

func (p *program) configSet(c *cli.Context) error {
	if !c.Args().Present() {
		return usagef("%s takes SECTION.NAME=VALUE", c.Command.FullName())
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	d, err := sealing.ReadConfig(c.Context, folder, o)
	if err != nil {
		return p.explained(c, err)
	}
	var all []config.Assignment
	for _, arg := range c.Args().Slice() {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return usagef("%q is not of the form SECTION.NAME=VALUE", arg)
		}
		all = append(all, config.Assignment{Key: key, Value: value})
	}
	if d.Text, err = config.Set(d.Text, all...); err != nil {
		return err
	}
	g, err := sealing.WriteConfig(c.Context, folder, d.Generation, d.Text, o)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.printSaved(c, g)
}

// configCheck probes everything, and fails where something is not in order.
func (p *program) configCheck(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	st, err := sealing.SealStatus(c.Context, folder, true, o)
	if err != nil {
		return p.explained(c, err)
	}
	if st.Phase == "plain" {
		if _, err := sealing.ReadConfig(c.Context, folder, o); err != nil {
			return err
		}
		return p.print(c, st, func(w io.Writer) { fmt.Fprintln(w, "The configuration is in order. It is not sealed.") })
	}
	bad := st.HSM != "ok"
	for _, f := range st.Files {
		bad = bad || f.Error != ""
	}
	err = p.print(c, st, func(w io.Writer) {
		printStatus(w, st)
		if !bad {
			fmt.Fprintln(w, "Everything opens and is in order.")
		}
	})
	if bad {
		return errors.Join(errors.New("the sealed configuration is not in order"), err)
	}
	return err
}
