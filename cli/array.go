package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/tps/api"
	"inkan/tps/wire"
)

func (p *program) arrayCommand() *cli.Command {
	return &cli.Command{
		Name:  "array",
		Usage: "several nodes that trust each other",
		Description: "The nodes of an array talk over mutual TLS, with certificates of a CA that is good for nothing else. One of\n" +
			"them, the primary, has the CA's key and makes the changes. The nodes share a PostgreSQL database; those with\n" +
			"the role tks share the keys. A change waits until the one before has reached every node.",
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "make an array of this node, its primary",
				Description: "From then on the node serves the others at [listen] peer (port 8444). Members may have names in the DNS\n" +
					"domain of this node's own name, and in those given.\n\n" +
					"   inkan array init\n   inkan array init --name cards --domain branch.example.org --recovery-key /media/safe/recovery.pem",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Usage: "`NAME` of the array; default: that of the node"},
					&cli.StringSliceFlag{Name: "domain", Usage: "another DNS `DOMAIN` that members may have names in"},
					&cli.StringFlag{Name: "recovery-key", Usage: "write a key to `FILE` with which another node can take over when this one is lost; keep it elsewhere"},
				},
				Action: p.arrayInit,
			},
			{
				Name: "invite", Usage: "let a node join once",
				Description: "Prints a code, once, and the command to run on the new node.\n\n" +
					"   inkan array invite --peer tks2.example.org --roles tks\n   inkan array invite --peer tps2.example.org --roles tps,console --ttl 8h",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "peer", Usage: "DNS `NAME` of the new node", Required: true},
					&cli.StringFlag{Name: "roles", Value: "all", Usage: "what it does: `ROLES` of tps, tks, console, with commas; or all"},
					&cli.DurationFlag{Name: "ttl", Value: time.Hour, Usage: "how long the code is good"},
				},
				Action: p.arrayInvite,
			},
			p.arrayJoinCommand(),
			{
				Name: "detach", Usage: "take a node out of the array",
				Description: "The node ends what runs, its certificate is refused from then on, and it becomes an array of its own. With\n" +
					"--self that happens here, without the primary. --force takes out a node that is lost: whoever has it has its\n" +
					"HSM login and its files, so change the PIN and what it could read.\n\n" +
					"   inkan array detach --peer tks2.example.org\n   inkan array detach --peer tks2.example.org --force\n   inkan array detach --self",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "peer", Usage: "`NAME` of the node; on the primary"},
					&cli.BoolFlag{Name: "self", Usage: "this node"},
					&cli.BoolFlag{Name: "force", Usage: "the node is lost"},
				},
				Action: p.arrayDetach,
			},
			{
				Name: "promote", Usage: "make another node the primary", ArgsUsage: "[NODE]",
				Description: "On the primary, of another node: it makes a CA of its own, all nodes get certificates of it, and the old CA\n" +
					"goes. No call between nodes fails meanwhile. With --force, on the node that is to take over from a primary\n" +
					"that is lost; the others then ask to confirm its CA (--confirm), unless the recovery key is there.\n\n" +
					"   inkan array promote tps2.example.org\n   inkan array promote --force --recovery-key /media/safe/recovery.pem\n" +
					"   inkan array promote --confirm",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "force", Usage: "the primary is lost, this node takes over"},
					&cli.StringFlag{Name: "recovery-key", Usage: "`FILE` that inkan array init made"},
					&cli.BoolFlag{Name: "confirm", Usage: "accept the node that was promoted by force"},
					&cli.StringFlag{Name: "fingerprint", Usage: "with --confirm: `sha256:HEX` of its CA, accepted without asking"},
				},
				Action: p.arrayPromote,
			},
			{
				Name: "rotate-ca", Usage: "replace the array's CA and all peer certificates",
				Description: "On the primary. No call between nodes fails meanwhile.\n\n   inkan array rotate-ca\n   inkan array rotate-ca --domain branch.example.org",
				Flags:       []cli.Flag{&cli.StringSliceFlag{Name: "domain", Usage: "another DNS `DOMAIN` that members may have names in"}},
				Action:      p.arrayRotate,
			},
			{
				Name: "status", Usage: "show every node, and whether all agree",
				Description: "Exit status 0 where they do (CONVERGED), else 1.\n\n   inkan array status\n   inkan array status --wait 2m --json",
				Flags:       []cli.Flag{&cli.DurationFlag{Name: "wait", Usage: "wait so long for the nodes to agree (`2m`)"}},
				Action:      p.arrayStatus,
			},
			{
				Name: "ca", Usage: "show the CAs that this node trusts, to compare fingerprints", Description: "   inkan array ca", Action: p.arrayCA,
			},
		},
	}
}

// withArray runs do with the node of the data folder, or with what it keeps of its
// array where it does not run.
func (p *program) withArray(c *cli.Context, do func(rest) error) error {
	a, err := server.LocalArray(c.Context, c.String("data"), p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, err)
	}
	return errors.Join(do(rest{client: a.Client, url: a.URL}), a.Close())
}

// change posts a request whose answer is how the change has ended.
func (p *program) changeArray(c *cli.Context, path string, body []byte, done func(io.Writer, server.Changed)) error {
	return p.withArray(c, func(r rest) error {
		var out server.Changed
		if err := r.call(c.Context, request{method: http.MethodPost, path: server.ArrayPath + path, body: body, out: &out}); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			done(w, out)
			if out.Pending != "" {
				fmt.Fprintf(w, "%s\nSee inkan array status --wait 5m.\n", printable(out.Pending))
			}
		})
	})
}

func (p *program) arrayInit(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q := server.ArrayInit{Name: c.String("name"), Domains: c.StringSlice("domain")}
	if f := c.String("recovery-key"); f != "" {
		q.RecoveryFile = absolute(f)
	}
	return p.withArray(c, func(r rest) error {
		var st server.ArrayStatus
		if err := r.post(c.Context, server.ArrayPath+"/init", q, &st); err != nil {
			return err
		}
		var cas server.ArrayCAs
		if err := r.get(c.Context, server.ArrayPath+"/ca", nil, &cas); err != nil {
			return err
		}
		return p.print(c, st, func(w io.Writer) {
			fmt.Fprintf(w, "This node, %s, is the primary of the array %s.\n", printable(st.Node), printable(st.Name))
			for _, ca := range cas.CAs {
				printCA(w, ca)
			}
			if q.RecoveryFile != "" {
				fmt.Fprintf(w, "The recovery key is in %s. Take it to a safe place: whoever has it can take the array over.\n", q.RecoveryFile)
			}
			if !st.Running {
				fmt.Fprintf(w, "\nNext:\n  inkan --data %s serve\n", c.String("data"))
			}
		})
	})
}

func printCA(w io.Writer, ca server.ArrayCA) {
	fmt.Fprintf(w, "%s (%s)\n  valid %s to %s\n  SHA-256 %s\n  words   %s\n", printable(ca.Subject), ca.Role,
		ca.NotBefore.UTC().Format(time.DateOnly), ca.NotAfter.UTC().Format(time.DateOnly), fingerprintBytes(ca.Fingerprint), ca.Words)
}

// fingerprintBytes are those of a fingerprint, with colons between them.
func fingerprintBytes(f string) string { return strings.TrimPrefix(f, "SHA256:") }

// fingerprintFlag is a fingerprint as --fingerprint takes it.
func fingerprintFlag(f string) string {
	return "sha256:" + strings.ToLower(strings.ReplaceAll(fingerprintBytes(f), ":", ""))
}

// rolesOf reads roles with commas between them.
func rolesOf(text string) ([]string, error) {
	all := []string{"tps", "tks", "console"}
	if text == "all" {
		return all, nil
	}
	roles := strings.Split(text, ",")
	for _, r := range roles {
		if !slices.Contains(all, r) {
			return nil, usagef("role %q: want some of tps, tks, console, with commas between them; or all", r)
		}
	}
	return roles, nil
}

func (p *program) arrayInvite(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	roles, err := rolesOf(c.String("roles"))
	if err != nil {
		return err
	}
	q := server.ArrayInvite{Name: c.String("peer"), Roles: roles, TTL: c.Duration("ttl")}
	return p.withArray(c, func(r rest) error {
		var out struct {
			server.Invited
			Code string `json:"Code"`
		}
		if err := r.post(c.Context, server.ArrayPath+"/invites", q, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "The node %s may join once, until %s.\nCode (shown this once): %s\n\nThere, with the code at hand:\n"+
				"  inkan --data FOLDER array join --primary %s --name %s --roles %s --fingerprint %s\n",
				printable(out.Name), out.Expires.Local().Format(time.DateTime), out.Code, out.Primary, printable(out.Name),
				printable(strings.Join(out.Roles, ",")), fingerprintFlag(out.Fingerprint))
		})
	})
}

func (p *program) arrayDetach(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	peer, self := c.String("peer"), c.Bool("self")
	if (peer == "") == !self {
		return usagef("detach takes --peer NAME or --self")
	}
	if self && c.Bool("force") {
		return usagef("--force goes with --peer: --self asks nobody anyway")
	}
	body, err := encodeJSON(server.ArrayDetach{Name: peer, Force: c.Bool("force")})
	if err != nil {
		return err
	}
	return p.changeArray(c, "/detach", body, func(w io.Writer, _ server.Changed) {
		switch {
		case self:
			fmt.Fprint(w, "This node is an array of its own now. The others list it until their primary detaches it (--force).\n"+
				"The array's records are out of its reach no sooner than you change the password of the database.\n")
		case c.Bool("force"):
			fmt.Fprintf(w, "%s is out of the array, and its certificates are refused. If it is in other hands, change the PIN of the HSM and the\n"+
				"password of the database: it has them. Back again, it has to be detached there (inkan array detach --self).\n", printable(peer))
		default:
			fmt.Fprintf(w, "%s is out of the array: it is an array of its own, and its certificates are refused.\n", printable(peer))
		}
	})
}

func (p *program) arrayPromote(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("promote takes one argument at most: the name of a node")
	}
	if c.Bool("confirm") {
		return p.confirmPromotion(c)
	}
	name, force := c.Args().First(), c.Bool("force")
	if name == "" && !force {
		return usagef("promote takes the name of a node; on the node itself, where the primary is lost, --force")
	}
	if c.String("recovery-key") != "" && !force {
		return usagef("--recovery-key goes with --force")
	}
	body, err := promotion(server.ArrayPromote{Name: name, Force: force}, c.String("recovery-key"))
	if err != nil {
		return err
	}
	return p.changeArray(c, "/promote", body, func(w io.Writer, out server.Changed) {
		if !force {
			fmt.Fprintf(w, "%s is the primary of the array.\n", printable(name))
			return
		}
		fmt.Fprintf(w, "This node is the primary of the array. Its CA has\n  SHA-256 %s\n", fingerprintBytes(out.Fingerprint))
		if c.String("recovery-key") == "" {
			fmt.Fprint(w, "Confirm that on each of the other nodes: inkan array promote --confirm\n")
		}
		fmt.Fprint(w, "The former primary, if it comes back, takes no part until it has joined again with an invite.\n")
	})
}

// promotion is the body of a promotion, with the recovery key of a file.
func promotion(q server.ArrayPromote, file string) ([]byte, error) {
	if file == "" {
		return encodeJSON(q)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the recovery key: %w", err)
	}
	key := secret.New(b)
	defer key.Wipe()
	return api.EncodeSecret(q, "RecoveryKey", key)
}

func (p *program) confirmPromotion(c *cli.Context) error {
	return p.withArray(c, func(r rest) error {
		var st server.ArrayStatus
		if err := r.get(c.Context, server.ArrayPath+"/status", nil, &st); err != nil {
			return err
		}
		if st.Waiting == nil {
			return errors.New("no promotion waits for a confirmation on this node")
		}
		f := st.Waiting.Fingerprint
		if given := c.String("fingerprint"); given != "" {
			want, err := wire.ParseFingerprint(given)
			if err != nil {
				return usageError{err}
			}
			f = want.String()
		} else {
			ok, err := p.askTrust(*st.Waiting)
			if err != nil {
				return err
			}
			if !ok {
				return errors.New("the new CA was not accepted; nothing was changed")
			}
		}
		var out server.Changed
		if err := r.post(c.Context, server.ArrayPath+"/confirm", server.ArrayConfirm{Fingerprint: f}, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) { fmt.Fprintf(w, "This node follows %s.\n", printable(st.Waiting.Primary)) })
	})
}

func (p *program) arrayRotate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	body, err := encodeJSON(server.ArrayRotate{Domains: c.StringSlice("domain")})
	if err != nil {
		return err
	}
	return p.changeArray(c, "/rotate-ca", body, func(w io.Writer, out server.Changed) {
		if out.Pending == "" {
			fmt.Fprint(w, "The array has a new CA, and all nodes have certificates of it.\n")
		}
	})
}

func (p *program) arrayCA(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withArray(c, func(r rest) error {
		var out server.ArrayCAs
		if err := r.get(c.Context, server.ArrayPath+"/ca", nil, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			for _, ca := range out.CAs {
				printCA(w, ca)
			}
			fmt.Fprintf(w, "Certificate of this node, %s: until %s, renewed from %s on\n", printable(out.Node),
				out.NotAfter.Local().Format(time.DateTime), out.Renewal.Local().Format(time.DateTime))
		})
	})
}

// awaitArray asks for the status, until the nodes agree or the time is over.
func awaitArray(ctx context.Context, r rest, wait time.Duration) (st server.ArrayStatus, err error) {
	for end := time.Now().Add(wait); ; {
		st = server.ArrayStatus{}
		err = r.get(ctx, server.ArrayPath+"/status", nil, &st)
		if err != nil || st.State == "converged" || time.Now().After(end) {
			return st, err
		}
		select {
		case <-ctx.Done():
			return st, ctx.Err()
		case <-time.After(min(time.Second, time.Until(end)+time.Millisecond)):
		}
	}
}
