package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// initAnswers are the answers to the questions of init, as --answers FILE holds
// them: TOML, decoded strictly. Secrets are named by files.
type initAnswers struct {
	Node         string   `toml:"node"`               // name; default the host's
	Address      string   `toml:"address"`            // default 0.0.0.0:8443
	Roles        []string `toml:"roles"`              // of tps, tks, console; default all of them. Without tks the node gets no keys
	Names        []string `toml:"names"`              // host names and addresses of the server certificate
	HSM          string   `toml:"hsm"`                // pkcs11: URI; empty = key file
	Protection   string   `toml:"minimum_protection"` // of key sets; default B with an HSM
	Passphrase   string   `toml:"passphrase"`         // file with the key file's passphrase; empty = a random one is kept in the folder
	KeyType      string   `toml:"key_type"`           // of the site's master key; default aes-128
	Organization string   `toml:"organization"`       // O of certificates
	Country      string   `toml:"country"`            // C of certificates
	CAName       string   `toml:"ca_name"`            // default Inkan CA NODE
	CAKey        string   `toml:"ca_key"`             // default ec-p256
	Database     struct {
		URL          string `toml:"url"`           // postgres://user@host/database; empty = a file in the folder
		PasswordFile string `toml:"password_file"` // with the password of that user; stays where it is
	} `toml:"database"`
	Admin struct {
		User     string `toml:"user"` // default admin
		Name     string `toml:"name"`
		Mail     string `toml:"mail"`
		Password string `toml:"password"` // file
	} `toml:"admin"`
	Backup struct {
		To         string `toml:"to"`         // file elsewhere
		Passphrase string `toml:"passphrase"` // file
	} `toml:"backup"`
	Seal *sealAnswers `toml:"seal"` // left out: the configuration stays plain

	sealing *sealChoice // what was answered at a terminal
}

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "prepare a data folder",
		Description: "Asks what a node needs to know and makes its folder: configuration, master key, certificate authority,\n" +
			"database, first administrator. With a key file it does not end before an encrypted copy was written\n" +
			"elsewhere and one key of it was checked by restoring. The records go into a file of the folder, or into a\n" +
			"PostgreSQL database that is there and empty, or another node's.\n\n" +
			"   inkan --data /var/lib/inkan init\n   inkan --data /var/lib/inkan init --answers answers.toml\n   inkan init --lab",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "answers", Usage: "TOML `FILE` with the answers: nothing is asked"},
			&cli.BoolFlag{Name: "lab", Usage: "ask nothing; a trial with software cards and a person demo"},
			&cli.StringFlag{Name: "address", Usage: "listen `ADDRESS` (with --lab)"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("lab") {
				return p.initLab(c)
			}
			a, err := p.collect(c)
			if err != nil {
				return p.explained(c, err)
			}
			return p.initSite(c, a)
		},
	}
}

// initLab makes a folder for a trial; the password of its person is printed once.
func (p *program) initLab(c *cli.Context) error {
	if c.String("answers") != "" {
		return usagef("init takes --lab or --answers, not both")
	}
	doc := ""
	if a := c.String("address"); a != "" {
		doc = fmt.Sprintf("[listen]\naddress = %q\nnames = [\"localhost\", \"127.0.0.1\", \"::1\"]\n", a)
	} else {
		doc = "[listen]\nnames = [\"localhost\", \"127.0.0.1\", \"::1\"]\n"
	}
	cfg, err := config.Decode([]byte(doc))
	if err != nil {
		return usageError{err}
	}
	cfg.Node.Lab, cfg.TPS.AllowSimulator = true, true
	password := randomPassword()
	defer password.Wipe()
	err = server.Create(c.Context, c.String("data"), server.Answers{
		Config: cfg, KeyParams: p.keyCost, AdminPassword: password.Clone(), Admin: auth.User{
			ID: "demo", Name: "Demo Person", Mail: "demo@example.org", UPN: "demo@example.org", Roles: []auth.Role{auth.Admin, auth.Agent, auth.Operator},
		},
	})
	if err != nil {
		return err
	}
	result := map[string]string{"folder": absolute(c.String("data")), "user": "demo", "password": string(password.Bytes()), "url": cfg.Listen.URL}
	return p.print(c, result, func(w io.Writer) {
		fmt.Fprintf(w, "The folder %s is ready: a trial, with software cards and throw-away keys.\nUser demo, password %s (shown this once)\n\nNext:\n"+
			"  inkan --data %s serve\n  inkan sim new --image card.img\n  inkan card enroll --sim card.img --server %s --user demo\n",
			c.String("data"), password.Bytes(), c.String("data"), cfg.Listen.URL)
	})
}

// collect reads the answers from the file, or asks.
func (p *program) collect(c *cli.Context) (initAnswers, error) {
	file := c.String("answers")
	if file == "" {
		return p.dialogue(c)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return initAnswers{}, fmt.Errorf("reading the answers: %w", err)
	}
	return decodeAnswers(b)
}

func decodeAnswers(b []byte) (initAnswers, error) {
	var a initAnswers
	md, err := toml.Decode(string(b), &a)
	if err != nil {
		return a, fmt.Errorf("decoding the answers: %w", err)
	}
	var errs []error
	for _, k := range md.Undecoded() {
		errs = append(errs, fmt.Errorf("the answers have an unknown key %s", k))
	}
	return a, errors.Join(errs...)
}

// question is one of the dialogue.
type question struct {
	text, byDefault string
	answer          *string
}

// dialogue asks; each question has a default.
func (p *program) dialogue(c *cli.Context) (initAnswers, error) {
	var a initAnswers
	d := config.Default()
	_, port, err := net.SplitHostPort(d.Listen.Address)
	if err != nil {
		return a, err
	}
	var names string
	for _, q := range []question{
		{"Name of this node", d.Node.Name, &a.Node},
		{"Address to listen on", "0.0.0.0:" + port, &a.Address},
		{"Host names and addresses that clients use, the first is the official one", strings.Join(d.Listen.Names, " "), &names},
		{"PKCS#11 URI of the HSM, empty for an encrypted key file", "", &a.HSM},
		{"URL of a PostgreSQL database, postgres://user@host/database, empty for a file in the folder", "", &a.Database.URL},
		{"Type of the site's master key for cards (aes-128, aes-192, aes-256, des3)", "aes-128", &a.KeyType},
		{"Organization in certificates, empty for none", "", &a.Organization},
		{"Country in certificates, two letters, empty for none", "", &a.Country},
		{"Key of the certificate authority (ec-p256, ec-p384, rsa-3072, rsa-4096)", string(hsm.P256), &a.CAKey},
		{"User name of the first administrator", "admin", &a.Admin.User},
		{"Name of that person", "Administrator", &a.Admin.Name},
		{"Mail address of that person, empty for none", "", &a.Admin.Mail},
	} {
		if *q.answer, err = p.ask(q.text, q.byDefault); err != nil {
			return a, err
		}
	}
	a.Names = strings.Fields(names)
	if a.Database.URL != "" {
		if a.Database.PasswordFile, err = p.ask("File with the password of its user, empty for none", ""); err != nil {
			return a, err
		}
	}
	if a.HSM == "" {
		a.Backup.To, err = p.ask("File for the encrypted copy of the key file, on another medium", "")
	} else {
		a.Protection, err = p.ask("Lowest protection of the cards' keys: A or B inside the HSM, C in memory for a request", "B")
	}
	if err != nil {
		return a, err
	}
	a.sealing, err = p.askSealing(c.Context, c.String("data"), a.HSM)
	return a, err
}

// initSite makes the folder of a site.
func (p *program) initSite(c *cli.Context, a initAnswers) error {
	out, err := p.siteAnswers(c.Context, a, c.String("data"))
	if err != nil {
		return err
	}
	if a.sealing == nil {
		if a.sealing, err = p.sealPlan(a.Seal, c.String("data"), a.HSM); err != nil {
			return p.explained(c, err)
		}
		if a.sealing != nil && a.sealing.plan.URI == "" && a.Passphrase != "" && a.Seal.PINSource == "" {
			a.sealing.plan.PINSource = "file:" + absolute(a.Passphrase)
		}
	}
	if err := server.Create(c.Context, c.String("data"), out); err != nil {
		return err
	}
	result := map[string]string{"folder": absolute(c.String("data")), "url": out.Config.Listen.URL, "administrator": string(out.Admin.ID)}
	if a.sealing != nil {
		report, err := sealing.Seal(c.Context, c.String("data"), a.sealing.plan, a.sealing.options(p.options(c, slog.LevelWarn)))
		if err != nil {
			return p.explained(c, fmt.Errorf("the folder is ready and not sealed; once this is mended: inkan config seal: %w", err))
		}
		result["sealing_key"] = report.Key
		defer func() {
			if !isSet(c, "json") && !isSet(c, "quiet") {
				printReport(p.out, report)
			}
		}()
	}
	return p.print(c, result, func(w io.Writer) {
		fmt.Fprintf(w, "The folder %s is ready.\n", c.String("data"))
		if !out.Config.Node.Has(config.RoleTKS) {
			fmt.Fprint(w, "It has no keys: those are at the nodes with the role tks of the array that it is to join (inkan array join).\n")
		} else if out.Config.HSM.URI == "" {
			fmt.Fprintf(w, "The key file was copied to %s, and a key of the copy was checked by restoring it.\nKeep the copy and its passphrase apart. A lost master key locks every card for ever.\n", out.BackupTo)
		} else {
			fmt.Fprint(w, "The keys are in the HSM. Its vendor's backup must hold every object whose label begins tms:\n(master keys tms:master:…, the authority's key tms:ca:…). A lost master key locks every card for ever.\n")
		}
		fmt.Fprintf(w, "\nNext:\n  put the load files of your applet into %s\n  inkan --data %s serve\n", absolute(c.String("data")+"/"+server.AppletFolder), c.String("data"))
	})
}

// siteAnswers turns the answers into what server.Create takes, reading or asking
// for the secrets.
func (p *program) siteAnswers(ctx context.Context, a initAnswers, folder string) (server.Answers, error) {
	out := server.Answers{CAName: a.CAName, KeyParams: p.keyCost, BackupTo: a.Backup.To, Admin: auth.User{
		ID: token.UserID(a.Admin.User), Name: a.Admin.Name, Mail: a.Admin.Mail, Roles: []auth.Role{auth.Admin, auth.Agent, auth.Operator},
	}}
	var err error
	if out.Config, err = a.config(); err != nil {
		return out, err
	}
	if out.Admin.ID == "" {
		out.Admin.ID = "admin"
	}
	if a.KeyType != "" {
		if out.KeyType, err = hsm.ParseKeyType(a.KeyType); err != nil {
			return out, err
		}
	}
	if a.CAKey != "" {
		if out.CAKey, err = hsm.ParseAlgorithm(a.CAKey); err != nil {
			return out, err
		}
	}
	if out.AdminPassword, err = p.newSecret(ctx, a.Admin.Password, "Password of "+string(out.Admin.ID)); err != nil {
		return out, err
	}
	if a.HSM != "" || !out.Config.Node.Has(config.RoleTKS) {
		return out, nil
	}
	if a.Passphrase != "" {
		if out.Passphrase, err = p.readSecret(a.Passphrase); err != nil {
			return out, err
		}
	} else if passphraseSource(folder) == "prompt" {
		if out.Passphrase, err = p.askSecret(ctx, "Passphrase of the key file, which is there already"); err != nil {
			return out, err
		}
	}
	if a.Backup.To == "" {
		return out, errors.New("a key file needs a copy elsewhere: [backup] to names the file")
	}
	out.BackupPassphrase, err = p.newSecret(ctx, a.Backup.Passphrase, "Passphrase of the copy")
	return out, err
}

// newSecret reads a secret from a file, or has it typed twice.
func (p *program) newSecret(ctx context.Context, file, what string) (secret.Secret, error) {
	if file != "" {
		return p.readSecret(file)
	}
	return p.askNew(ctx, what)
}

// config is the configuration that the answers make.
func (a initAnswers) config() (config.Config, error) {
	var roles []config.Role
	for _, r := range a.Roles {
		roles = append(roles, config.Role(r))
	}
	database := config.Database{URL: a.Database.URL, PasswordFile: a.Database.PasswordFile}
	if database.PasswordFile != "" {
		database.PasswordFile = absolute(database.PasswordFile) // not a file of the folder, which is not there yet
	}
	return config.Config{
		Node:     config.Node{Name: a.Node, Roles: roles},
		Listen:   config.Listen{Address: a.Address, Names: a.Names},
		HSM:      config.HSM{URI: a.HSM},
		TKS:      config.TKS{MinimumProtection: a.Protection},
		CA:       config.CA{Organization: a.Organization, Country: a.Country},
		Database: database,
	}.Complete()
}
