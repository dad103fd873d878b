package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/realm"
)

func (p *program) realmCommand() *cli.Command {
	key := "KEY"
	return &cli.Command{
		Name:  "realm",
		Usage: "keys that sign the node's own tokens",
		Description: "One key signs per algorithm: the active one of highest priority. Passive keys verify only, disabled ones do\n" +
			"nothing. A KEY is named by its name, its kid or its id. Changes act at once, without a restart.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the keys, the one that signs first", Description: "   inkan realm list\n   inkan realm list --deleted --json",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "deleted", Usage: "also deleted keys"}}, Action: p.listRealmKeys,
			},
			{
				Name: "add", Usage: "add a key: generated, uploaded, out of a Java key store, or one that is in the HSM",
				Description: "   inkan realm add --algorithm ES256 --priority 200\n" +
					"   inkan realm add --algorithm RS256 --bits 4096 --passive\n" +
					"   inkan realm add --pem key.pem --certificates chain.pem\n" +
					"   inkan realm add --keystore keys.jks --alias signing --password-file store.txt --key-password-file key.txt\n" +
					"   inkan realm add --hsm-label token-signing --algorithm PS256",
				Flags: []cli.Flag{
					useFlag("what the key signs"),
					&cli.StringFlag{Name: "algorithm", Usage: "`NAME`: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA; default ES256, or the usual one of the key"},
					&cli.IntFlag{Name: "bits", Usage: "size `N` of a generated RSA key: 2048, 3072, 4096 (default 3072)"},
					&cli.StringFlag{Name: "name", Usage: "`NAME` of the key; default: algorithm and time"},
					&cli.Int64Flag{Name: "priority", Usage: "the highest `N` signs"},
					&cli.BoolFlag{Name: "passive", Usage: "the key verifies and does not sign"},
					&cli.StringFlag{Name: "pem", Usage: "`FILE` with a private key: PKCS #8, PKCS #1 or SEC 1; --key-password-file opens encrypted PKCS #8"},
					&cli.StringFlag{Name: "certificates", Usage: "PEM `FILE` with the key's certificate and those of its issuers; default: one is made"},
					&cli.BoolFlag{Name: "allow-expired", Usage: "take a certificate that is not valid now"},
					&cli.StringFlag{Name: "keystore", Usage: "JKS or PKCS #12 `FILE`; the key is copied, the file is not needed any more"},
					&cli.StringFlag{Name: "alias", Usage: "`NAME` of the key in the key store, where it has several"},
					&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password of the key store, - for standard input"},
					&cli.StringFlag{Name: "key-password-file", Usage: "`FILE` with the password of the key: of an encrypted PEM key, or where that of a key store is another one"},
					&cli.StringFlag{Name: "hsm-label", Usage: "`LABEL` of a key pair that is in the HSM"},
				},
				Action: p.addRealmKey,
			},
			p.realmStateCommand("activate", "active", "let a key sign where it has the highest priority, or change its priority",
				"   inkan realm activate es256-20261122-015504\n   inkan realm activate es256-20261122-015504 --priority 300",
				&cli.Int64Flag{Name: "priority", Usage: "also give it priority `N`"}),
			p.realmStateCommand("passive", "passive", "let a key verify only", "   inkan realm passive es256-20261122-015504"),
			p.realmStateCommand("disable", "disabled", "let a key count for nothing; tokens that it signed are refused", "   inkan realm disable es256-20261122-015504"),
			{
				Name: "delete", Usage: "destroy the private half of a key; its public half stays", ArgsUsage: key,
				Description: "   inkan realm delete es256-20261122-015504", Action: p.deleteRealmKey,
			},
			{
				Name: "rotate", Usage: "make the next key and let it sign now; the one before it becomes passive",
				Description: "By itself that happens as [realm] in inkan.toml says. --dry-run shows what will happen when, and changes nothing.\n\n" +
					"   inkan realm rotate\n   inkan realm rotate --algorithm RS256\n   inkan realm rotate --dry-run --days 400",
				Flags: []cli.Flag{
					useFlag("rotate the key"),
					&cli.StringFlag{Name: "algorithm", Value: "ES256", Usage: "of the keys that sign with `NAME`"},
					&cli.BoolFlag{Name: "dry-run", Usage: "show the calendar of what the policy does"},
					&cli.IntFlag{Name: "days", Value: 365, Usage: "how many days `N` the calendar has"},
				},
				Action: p.rotateRealm,
			},
			{
				Name: "cert", Usage: "show the certificate of a key, or replace it by one for the same key", ArgsUsage: key,
				Description: "   inkan realm cert es256-20261122-015504 > key.pem\n   inkan realm cert es256-20261122-015504 --der > key.der\n" +
					"   inkan realm cert es256-20261122-015504 --fingerprint\n" +
					"   inkan realm cert es256-20261122-015504 --replace from-ca.pem",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "der", Usage: "that of the key alone as DER; default: PEM, with those of its issuers"},
					&cli.BoolFlag{Name: "p7b", Usage: "PKCS #7, with those of its issuers"},
					&cli.BoolFlag{Name: "fingerprint", Usage: "the SHA-256 of the key's certificate alone"},
					&cli.StringFlag{Name: "replace", Usage: "PEM `FILE` with the new certificate and those of its issuers"},
				},
				Action: p.realmCertificate,
			},
			{
				Name: "compromised", Usage: "give a key up: a new one signs, every token from before is refused, clients are told", ArgsUsage: key,
				Description: "The private half is destroyed and everybody has to log in again. What failed to be told to a client is\n" +
					"told again by the same command. Exit status 1 where a client could not be told.\n\n" +
					"   inkan realm compromised es256-20261122-015504",
				Action: p.realmCompromised,
			},
			{
				Name: "status", Usage: "show which keys sign, on which node, and what happens next",
				Description: "CONVERGED: every node that serves signs with the key that it should. A node that has not been heard of for\n" +
					"3 minutes is silent and does not count. Exit status 1 where they have not converged.\n\n   inkan realm status\n   inkan realm status --wait",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "wait", Usage: "wait for them to converge, half a minute at most"}},
				Action: p.realmStatus,
			},
		},
	}
}

func useFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "use", Value: string(realm.ForSessions), Usage: usage + " of `USE`: sig (logins), ticket, audit"}
}

func (p *program) realmStateCommand(name, state, usage, description string, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "KEY", Description: description, Flags: flags,
		Action: func(c *cli.Context) error { return p.setRealmState(c, state) },
	}
}

func realmKeyPath(key string) string { return "/realm/keys/" + url.PathEscape(key) }

func (p *program) listRealmKeys(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.RealmKey]
		q := url.Values{}
		if c.Bool("deleted") {
			q.Set("deleted", "true")
		}
		if err := r.get(c.Context, "/realm/keys", q, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) { realmKeyTable(w, l.Entries) })
	})
}

func realmKeyTable(w io.Writer, keys []api.RealmKey) {
	table(w, "NAME\tUSE\tALGORITHM\tPROVIDER\tPRIORITY\tSTATE\tKID\tSINCE", len(keys), func(i int) string {
		k := keys[i]
		state := k.State
		switch {
		case k.Signing:
			state += ", signs"
		case k.Compromised != 0:
			state += ", compromised"
		}
		return strings.Join([]string{k.Name, k.Use, k.Algorithm, k.Provider, strconv.FormatInt(k.Priority, 10), state, k.KID, moment(k.Created)}, "\t")
	})
}

func (p *program) setRealmState(c *cli.Context, state string) error {
	key, err := oneArgument(c, "KEY")
	if err != nil {
		return err
	}
	changes := []api.RealmKeyChange{{State: &state}}
	if c.IsSet("priority") {
		n := c.Int64("priority")
		changes = append(changes, api.RealmKeyChange{Priority: &n})
	}
	return p.withNode(c, func(r rest) error {
		var k api.RealmKey
		for _, ch := range changes {
			if err := r.patch(c.Context, realmKeyPath(key), ch, &k); err != nil {
				return err
			}
		}
		return p.print(c, k, func(w io.Writer) { fmt.Fprintf(w, "Key %s is %s, priority %d.\n", k.Name, k.State, k.Priority) })
	})
}

func (p *program) deleteRealmKey(c *cli.Context) error {
	key, err := oneArgument(c, "KEY")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var k api.RealmKey
		if err := r.get(c.Context, realmKeyPath(key), nil, &k); err != nil {
			return err
		}
		if err := r.call(c.Context, request{method: http.MethodDelete, path: realmKeyPath(k.ID)}); err != nil {
			return err
		}
		if err := r.get(c.Context, realmKeyPath(k.ID), nil, &k); err != nil {
			return err
		}
		return p.print(c, k, func(w io.Writer) { fmt.Fprintf(w, "Key %s is deleted; its public half stays on record.\n", k.Name) })
	})
}

func (p *program) rotateRealm(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		if c.Bool("dry-run") {
			return p.realmCalendar(c, r)
		}
		var out api.RealmRotation
		if err := r.post(c.Context, "/realm/rotate", map[string]string{"Use": c.String("use"), "Algorithm": c.String("algorithm")}, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Key %s signs now, kid %s. Key %s is passive.\n", out.Made.Name, out.Made.KID, out.Before.Name)
		})
	})
}

func (p *program) realmCalendar(c *cli.Context, r rest) error {
	var l api.List[api.RealmStep]
	if err := r.get(c.Context, "/realm/calendar", url.Values{"days": {strconv.Itoa(c.Int("days"))}}, &l); err != nil {
		return err
	}
	return p.print(c, l, func(w io.Writer) {
		if len(l.Entries) == 0 {
			fmt.Fprintln(w, "Nothing happens by itself.")
			return
		}
		table(w, "WHEN\tWHAT\tKEY", len(l.Entries), func(i int) string {
			s := l.Entries[i]
			return strings.Join([]string{moment(s.At), realmActions[s.Action], s.Key}, "\t")
		})
	})
}

var realmActions = map[string]string{
	string(realm.Create): "next key is made and published, after", string(realm.TakeOver): "signs, the key before it becomes passive",
	string(realm.Expire): "no longer verifies", string(realm.Remove): "private half is destroyed",
}

func (p *program) realmCompromised(c *cli.Context) error {
	key, err := oneArgument(c, "KEY")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var out api.RealmCompromise
		if err := r.post(c.Context, realmKeyPath(key)+"/compromised", nil, &out); err != nil {
			return err
		}
		err := p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Key %s counts for nothing", out.Gone.Name)
			if !out.Gone.PrivateHalf {
				fmt.Fprint(w, " and its private half is destroyed")
			}
			fmt.Fprintf(w, ". Tokens from before %s are refused.\n", moment(out.NotBefore))
			if out.Made != nil {
				fmt.Fprintf(w, "Key %s signs now, kid %s.\nDestroy the copies of the key that backups have.\n", out.Made.Name, out.Made.KID)
			}
			if len(out.Clients) > 0 {
				table(w, "CLIENT\tRESULT\tTRIES\tERROR", len(out.Clients), func(i int) string {
					cl := out.Clients[i]
					name := cl.Client
					if cl.Node {
						name = "node " + name
					}
					return strings.Join([]string{name, cl.Result, strconv.Itoa(cl.Tries), dash(cl.Error)}, "\t")
				})
			}
		})
		if slices.ContainsFunc(out.Clients, func(cl api.RealmPush) bool { return cl.Result == string(realm.PushFailed) }) || out.Gone.PrivateHalf {
			return fmt.Errorf("not everything is done: inkan realm compromised %s does the rest", out.Gone.ID)
		}
		return err
	})
}
