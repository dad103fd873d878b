package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"

	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/wire"
)

// joinAnswers are what a folder that is not prepared needs to become that of a member,
// as --answers FILE holds them.
type joinAnswers struct {
	Node        string   `toml:"node"`               // name; default: that of --name
	Address     string   `toml:"address"`            // of card clients and people, with the role tps or console
	Names       []string `toml:"names"`              // host names and addresses that they use
	Peer        string   `toml:"peer"`               // where the other nodes are served; default 0.0.0.0:8444
	PeerAddress string   `toml:"peer_address"`       // how they reach it; default: name and that port
	HSM         string   `toml:"hsm"`                // pkcs11: URI, with the role tks; empty: a copy of the array's key file
	Protection  string   `toml:"minimum_protection"` // of key sets; default B with an HSM
	KeyFile     string   `toml:"key_file"`           // that inkan keyset backup wrote
	Passphrase  string   `toml:"key_passphrase"`     // file with its passphrase
	Database    struct {
		URL          string `toml:"url"` // the array's
		PasswordFile string `toml:"password_file"`
	} `toml:"database"`
}

func (p *program) arrayJoinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "make this node a member of another one's array",
		Description: "The primary's operator invites the node (inkan array invite), which prints this command and a code. The CA of\n" +
			"the array is shown: compare it with what inkan array ca says on the primary. A data folder that is not prepared\n" +
			"yet becomes that of a member; one that is has to have the authority, the keys and the database of the array.\n" +
			"The node must not run meanwhile. The code is asked for, or read from --code-file.\n\n" +
			"   inkan --data /var/lib/inkan array join --primary tps1.example.org --name tks2.example.org --roles tks\n" +
			"   inkan array join --primary tps1.example.org --name tps2.example.org --roles tps,console \\\n" +
			"      --fingerprint sha256:0a1b… --code-file - --answers join.toml",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "primary", Usage: "`HOST` of the primary, with :port where it is not 8444", Required: true},
			&cli.StringFlag{Name: "name", Usage: "DNS `NAME` of this node, as the invite has it; default: that of the folder"},
			&cli.StringFlag{Name: "roles", Usage: "`ROLES` as the invite has them; default: those of the folder"},
			&cli.StringFlag{Name: "fingerprint", Usage: "`sha256:HEX` of the array's CA, accepted without asking"},
			&cli.StringFlag{Name: "code-file", Usage: "`FILE` with the code, - for standard input"},
			&cli.StringFlag{Name: "answers", Usage: "TOML `FILE` with the answers for a new folder: nothing is asked"},
			&cli.BoolFlag{Name: "replace", Usage: "a member of the same name was this node before: it goes"},
		},
		Action: p.arrayJoin,
	}
}

func (p *program) arrayJoin(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q := server.JoinRequest{Primary: c.String("primary"), Replace: c.Bool("replace"), Confirm: p.askTrust}
	var err error
	if f := c.String("fingerprint"); f != "" {
		if q.Fingerprint, err = wire.ParseFingerprint(f); err != nil {
			return usageError{err}
		}
	}
	if q.Folder, err = p.memberFolder(c); err != nil {
		return err
	}
	if q.Code, err = p.secretFrom(c.Context, c.String("code-file"), "Code of the invite"); err != nil {
		return err
	}
	defer q.Code.Wipe()
	out, err := server.Join(c.Context, c.String("data"), p.options(c, slog.LevelWarn), q)
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "This node, %s, is in the array %s with %s; its primary is %s.\n", printable(out.Node), printable(out.Array),
			printable(strings.Join(out.Members, ", ")), printable(out.Primary))
		if out.Pending != "" {
			fmt.Fprintf(w, "Not all is done: %s\n", printable(out.Pending))
		}
		fmt.Fprintf(w, "\nNext:\n  inkan --data %s serve\n", c.String("data"))
	})
}

// askTrust shows the CA of an array and asks.
func (p *program) askTrust(o server.ArrayOffer) (bool, error) {
	fmt.Fprintf(p.err, "Array %s (%s), primary %s, %d members\n", printable(o.Name), o.Array, printable(o.Primary), o.Members)
	printCA(p.err, server.ArrayCA{Subject: o.Subject, Role: "current", NotBefore: o.NotBefore, NotAfter: o.NotAfter, Fingerprint: o.Fingerprint, Words: o.Words})
	fmt.Fprint(p.err, "Compare it with what inkan array ca says on the primary.\n")
	ok, err := p.confirm("Trust this CA?")
	if errors.Is(err, errNoTerminal) {
		return false, fmt.Errorf("%w; --fingerprint says which CA to trust", err)
	}
	return ok, err
}

// memberFolder says how the folder is made; nil where it is prepared.
func (p *program) memberFolder(c *cli.Context) (*server.JoinFolder, error) {
	_, err := sealing.Prepared(c.String("data"))
	if !errors.Is(err, sealing.ErrNotPrepared) {
		if err == nil && (c.IsSet("answers") || c.IsSet("name") || c.IsSet("roles")) {
			return nil, p.sameMember(c)
		}
		return nil, p.explained(c, err)
	}
	if c.String("name") == "" || c.String("roles") == "" {
		return nil, usagef("the folder %s is not prepared yet: --name and --roles say what it becomes, as the invite has them", c.String("data"))
	}
	roles, err := rolesOf(c.String("roles"))
	if err != nil {
		return nil, err
	}
	a, err := p.joinAnswers(c, roles)
	if err != nil {
		return nil, err
	}
	out := &server.JoinFolder{KeyFile: a.KeyFile, KeepPassphrase: true}
	if out.Config, err = a.config(c.String("name"), roles); err != nil {
		return nil, err
	}
	if a.KeyFile != "" {
		out.KeyPassphrase, err = p.secretFrom(c.Context, a.Passphrase, "Passphrase of the copy of the key file")
	}
	return out, err
}

// sameMember refuses a name or roles that the folder does not have.
func (p *program) sameMember(c *cli.Context) error {
	if c.IsSet("answers") {
		return usagef("the folder is prepared: it joins with the settings that it has, without --answers")
	}
	a, err := server.ReadConfig(c.Context, c.String("data"), p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, stopped(err))
	}
	if name := c.String("name"); name != "" && name != a.PeerName() {
		return fmt.Errorf("this node is %s ([listen] peer_name), not %s; nothing was sent", a.PeerName(), name)
	}
	if text := c.String("roles"); text != "" {
		roles, err := rolesOf(text)
		if err != nil {
			return err
		}
		for _, r := range []config.Role{config.RoleTPS, config.RoleTKS, config.RoleConsole} {
			if a.Node.Has(r) != slices.Contains(roles, string(r)) {
				return fmt.Errorf("this node has other roles ([node] roles) than %s; nothing was sent", text)
			}
		}
	}
	return nil
}

// joinAnswers reads the answers from the file, or asks.
func (p *program) joinAnswers(c *cli.Context, roles []string) (a joinAnswers, err error) {
	if file := c.String("answers"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return a, fmt.Errorf("reading the answers: %w", err)
		}
		md, err := toml.Decode(string(b), &a)
		if err != nil {
			return a, fmt.Errorf("decoding the answers: %w", err)
		}
		if extra := md.Undecoded(); len(extra) > 0 {
			return a, fmt.Errorf("the answers have an unknown key %s", extra[0])
		}
		return a, nil
	}
	public := slices.Contains(roles, "tps") || slices.Contains(roles, "console")
	names := c.String("name") + " localhost 127.0.0.1"
	for _, q := range []struct {
		question
		asked bool
	}{
		{question{"Name of this node in records", c.String("name"), &a.Node}, true},
		{question{"Address to listen on for the other nodes", config.Default().Listen.Peer, &a.Peer}, true},
		{question{"Address at which they reach it", "", &a.PeerAddress}, true},
		{question{"Address to listen on for card clients and people", "0.0.0.0:8443", &a.Address}, public},
		{question{"Host names and addresses that they use, the first is the official one", names, &names}, public},
		{question{"PKCS#11 URI of the HSM, empty for a copy of the array's key file", "", &a.HSM}, slices.Contains(roles, "tks")},
		{question{"URL of the array's database, postgres://user@host/database", "", &a.Database.URL}, true},
		{question{"File with the password of its user, empty for none", "", &a.Database.PasswordFile}, true},
	} {
		if !q.asked {
			continue
		}
		if *q.answer, err = p.ask(q.text, q.byDefault); err != nil {
			return a, err
		}
	}
	a.Names = strings.Fields(names)
	if slices.Contains(roles, "tks") && a.HSM == "" {
		a.KeyFile, err = p.ask("File that inkan keyset backup wrote", "")
	}
	return a, err
}

// config is the configuration that the answers make.
func (a joinAnswers) config(name string, roles []string) (config.Config, error) {
	c := config.Config{
		Node:     config.Node{Name: a.Node},
		Listen:   config.Listen{Address: a.Address, Names: a.Names, Peer: a.Peer, PeerName: name, PeerAddress: a.PeerAddress},
		HSM:      config.HSM{URI: a.HSM},
		TKS:      config.TKS{MinimumProtection: a.Protection},
		Database: config.Database{URL: a.Database.URL, PasswordFile: a.Database.PasswordFile},
	}
	if c.Node.Name == "" {
		c.Node.Name = name
	}
	if c.Database.PasswordFile != "" {
		c.Database.PasswordFile = absolute(c.Database.PasswordFile)
	}
	for _, r := range roles {
		c.Node.Roles = append(c.Node.Roles, config.Role(r))
	}
	if len(roles) == 3 {
		c.Node.Roles = []config.Role{config.RoleAll}
	}
	return c.Complete()
}
