package cli

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/api"
	"inkan/tps/seal"
)

func (p *program) backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "write the data folder, encrypted, to a file elsewhere",
		Description: "Everything of the folder, with a manifest, while the node runs: sealed files as they are, the database as of\n" +
			"one moment, key file, authority, audit, load files. It is encrypted for the recovery key of a sealed folder, or\n" +
			"for --age-recipient, or under a passphrase. Keys in an HSM are not in it: their vendor's backup is. Nor are\n" +
			"records in PostgreSQL: pg_dump or a base backup of the server is theirs.\n\n" +
			"   inkan backup --to /media/safe/inkan-2026-11-22.age\n   inkan backup --to /media/safe/inkan.age --passphrase-file secret.txt\n" +
			"   inkan backup verify --identity key.txt /media/safe/inkan.age\n   inkan backup list",
		Flags: []cli.Flag{&cli.StringFlag{Name: "to", Usage: "new `FILE` on another disk or medium"},
			&cli.StringFlag{Name: "age-recipient", Usage: "encrypt for `RECIPIENT`"},
			&cli.StringFlag{Name: "passphrase-file", Usage: "encrypt under the passphrase in `FILE`, - for standard input"}},
		Action: p.backup,
		Subcommands: []*cli.Command{
			{Name: "verify", ArgsUsage: "FILE", Usage: "read a backup to its end, check it, and say which sealing keys it needs",
				Description: "Writes nothing.\n\n   inkan backup verify --identity key.txt /media/safe/inkan.age",
				Flags:       backupKeys(), Action: p.backupVerify},
			{Name: "list", Usage: "list the backups of a sealed folder, and the sealing keys that they need",
				Description: "They keep inkan config rotate-key --retire-old from destroying a key.\n\n   inkan backup list", Action: p.backupList},
			{Name: "forget", ArgsUsage: "FILE", Usage: "take a backup off the list: it was deleted",
				Description: "   inkan backup forget /media/safe/inkan.age", Action: p.backupForget},
		},
	}
}

// backupKeys are the flags for what opens a backup.
func backupKeys() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "identity", Usage: "`FILE` with the age identity, - for standard input"},
		&cli.StringFlag{Name: "passphrase-file", Usage: "`FILE` with its passphrase, - for standard input"}}
}

func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "make a data folder of a backup",
		Description: "The folder must not be there yet. Nothing is put in place before all of it was checked against the manifest.\n" +
			"With the HSM that holds its keys the node then starts; what is in the way is said. With --new-instance the sealed\n" +
			"configuration is set aside, whose key stays with the old machine or is lost, and inkan init makes a new one.\n\n" +
			"   inkan --data /var/lib/inkan restore --from inkan.age --identity key.txt\n   inkan restore --from inkan.age --passphrase-file secret.txt\n" +
			"   inkan restore --from inkan.age --identity key.txt --new-instance",
		Flags: append([]cli.Flag{&cli.StringFlag{Name: "from", Usage: "the backup `FILE`"},
			&cli.BoolFlag{Name: "new-instance", Usage: "set its sealed configuration aside, for a new set-up around the records"}}, backupKeys()...),
		Action: p.restore,
	}
}

func (p *program) backup(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	to := c.String("to")
	if to == "" {
		return usagef("%s needs --to: a file on another disk or medium", c.Command.FullName())
	}
	q := api.FolderBackupRequest{Path: absolute(to), Recipient: c.String("age-recipient")}
	var pass secret.Secret
	boot, err := seal.LoadBootstrap(c.String("data"))
	if known := err == nil && strings.HasPrefix(boot.Recipient, "age1"); c.String("passphrase-file") != "" || q.Recipient == "" && !known {
		if pass, err = p.newSecretFrom(c, "passphrase-file", "Passphrase of the backup"); err != nil {
			return err
		}
		defer pass.Wipe()
	}
	body, err := api.EncodeSecret(q, "passphrase", pass)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var b api.FolderBackup
		if err := r.call(c.Context, request{method: http.MethodPost, path: "/backup", body: body, out: &b}); err != nil {
			return err
		}
		return p.print(c, b, func(w io.Writer) { printFolderBackup(w, b) })
	})
}

func printFolderBackup(w io.Writer, b api.FolderBackup) {
	fmt.Fprintf(w, "%d files, %d bytes, are in %s, encrypted", b.Files, b.Bytes, b.Path)
	if b.Recipient != "" {
		fmt.Fprintf(w, " for %s", printable(b.Recipient))
	}
	fmt.Fprintf(w, ".\nSHA-256 %s\n", b.SHA256)
	for _, l := range b.Left {
		fmt.Fprintf(w, "Not in it, because it is not in the folder: %s\n", printable(l))
	}
	fmt.Fprintln(w, "Keys in an HSM are not in it: inkan keyset backup says what its vendor's backup must hold.")
}

func (p *program) restore(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	from := c.String("from")
	if from == "" {
		return usagef("%s needs --from: the backup", c.Command.FullName())
	}
	identity, pass, err := p.openBackup(c)
	if err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelError)
	if c.Bool("new-instance") {
		return p.restoreAnew(c, from, folder, identity, pass, o)
	}
	out, err := server.Restore(c.Context, from, folder, identity, pass, o)
	if err != nil {
		return p.explained(c, err)
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "The folder %s is restored: node %s as of %s, %d files.\n", c.String("data"), printable(out.Node), out.Created.Format("2006-01-02 15:04:05 MST"), out.Files)
		if out.Problem != "" {
			fmt.Fprintf(w, "It does not open as it is: %s\nMore: inkan doctor\n", printable(out.Problem))
			return
		}
		fmt.Fprintln(w, "It opens. Next: inkan serve")
	})
}

// openBackup reads what opens a backup: an age identity, or else its passphrase.
func (p *program) openBackup(c *cli.Context) (identity, pass secret.Secret, err error) {
	switch file := c.String("identity"); {
	case file != "":
		identity, err = p.readIdentity(file)
	case c.String("passphrase-file") != "":
		pass, err = p.readSecret(c.String("passphrase-file"))
	default:
		identity, err = p.askSecret(c.Context, "Key of the backup (AGE-SECRET-KEY-…) or passphrase")
		if err == nil && !strings.HasPrefix(string(identity.Bytes()[:min(4, identity.Len())]), "AGE-") {
			identity, pass = secret.Secret{}, identity
		}
	}
	return identity, pass, err
}

func (p *program) backupVerify(c *cli.Context) error {
	file, err := oneArgument(c, "a backup")
	if err != nil {
		return err
	}
	identity, pass, err := p.openBackup(c)
	if err != nil {
		return err
	}
	out, err := server.VerifyBackup(c.Context, file, identity, pass)
	if err != nil {
		return err
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "It is whole: node %s as of %s, %d files, %d bytes, of %s.\n", printable(out.Node), out.Created.Format("2006-01-02 15:04:05 MST"), out.Files, out.Bytes, printable(out.From))
		if len(out.Keys) > 0 {
			fmt.Fprintf(w, "Its sealed files open by %s, or the recovery key.\n", printable(strings.Join(out.Keys, ", ")))
		}
	})
}

func (p *program) backupList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	all, err := sealing.Backups(c.String("data"))
	if err != nil {
		return err
	}
	return p.print(c, all, func(w io.Writer) {
		table(w, "BACKUP\tMADE\tNEEDS", len(all), func(i int) string {
			return fmt.Sprintf("%s\t%s\t%s", printable(all[i].Path), all[i].Created.Format(time.DateTime), strings.Join(all[i].Keys, ", "))
		})
	})
}

func (p *program) backupForget(c *cli.Context) error {
	file, err := oneArgument(c, "a backup")
	if err != nil {
		return err
	}
	if err := sealing.ForgetBackup(c.Context, c.String("data"), absolute(file)); err != nil {
		return err
	}
	return p.print(c, map[string]string{"Path": absolute(file)}, func(w io.Writer) { fmt.Fprintf(w, "%s is off the list.\n", printable(absolute(file))) })
}

// restoreAnew restores a folder but for its sealed configuration.
func (p *program) restoreAnew(c *cli.Context, from, folder string, identity, pass secret.Secret, o server.Options) error {
	out, aside, err := server.RestoreAnew(c.Context, from, folder, identity, pass, o)
	if err != nil {
		return p.explained(c, err)
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "The folder %s is restored: node %s as of %s, %d files.\n", folder, printable(out.Node), out.Created.Format("2006-01-02 15:04:05 MST"), out.Files)
		printAside(w, folder, aside)
	})
}
