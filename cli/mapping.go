package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/profile"
)

const mappingHelp = "A document holds mappings in the order in which they are tried; the first whose filter the card passes wins:\n\n" +
	"   name = \"profiles\"\n   operations = [\"format\", \"enroll\"]     # that ask it\n   resolves = \"profile\"                # or \"keys\"\n" +
	"   [[mapping]]\n   title = \"cards of the visitors' desk\"\n   filter = { cuid_start = \"40900000000000000000\", cuid_end = \"4090FFFFFFFFFFFFFFFF\" }\n" +
	"   target = { profile = \"visitor\" }\n\n" +
	"Filters: token_type, key_set, token_atr (what the client says), cuid_start, cuid_end, protocol_major, protocol_minor,\n" +
	"applet_major, applet_minor (0 without applet), sym_key_size (bits of the card's keys). All that are given have to pass.\n" +
	"Targets: profile, or with resolves = \"keys\": key_set, key_version, factory, applet, which then count instead of those of\n" +
	"the profile. A mapping without target refuses its cards. Where no mapping passes, it is the profile that the client's\n" +
	"token type names, else [tps] default_profile (unmanaged_profile for a card without a card\n" +
	"manager, such as a YubiKey). A renewal, a PIN reset and a key changeover keep to the profile that the card was enrolled\n" +
	"with, and a profile that the client requires (--profile of inkan card) comes before everything.\n"

func (p *program) mappingCommand() *cli.Command {
	operation := &cli.StringFlag{Name: "operation", Value: profile.Enrolling, Usage: "`OPERATION` that is asked for: " + strings.Join(profile.Operations(), ", ")}
	return &cli.Command{
		Name:        "mapping",
		Usage:       "which profile and keys a card gets",
		Description: mappingHelp,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list mappings in the order in which they are tried", Description: "   inkan mapping list\n   inkan mapping list --json", Action: p.listMappings},
			{
				Name: "show", Usage: "print a document of mappings", ArgsUsage: "NAME",
				Description: "The document goes to standard output, its revision and warnings to standard error.\n\n   inkan mapping show profiles > profiles.toml",
				Action:      p.showMapping,
			},
			{
				Name: "set", Usage: "take a document of mappings, new or changed", ArgsUsage: "FILE",
				Description: mappingHelp + "\nIt is checked as a whole: one mistake, or a profile or key set that is not there, and nothing changes. It counts from the\n" +
					"next card on.\n\n   inkan mapping set profiles.toml\n   inkan mapping set profiles.toml --revision 1\n   inkan mapping set -",
				Flags:  []cli.Flag{&cli.IntFlag{Name: "revision", Usage: "only if `N` is still the newest revision, 0: only if there is none"}},
				Action: p.setMapping,
			},
			{
				Name: "delete", Usage: "take a document of mappings away", ArgsUsage: "NAME",
				Description: "Cards get the default profile and its keys from then on.\n\n   inkan mapping delete profiles", Action: p.deleteMapping,
			},
			{
				Name: "test", Usage: "say which profile a card would get, and why",
				Description: "Nothing is asked of a card: say what it would show.\n\n" +
					"   inkan mapping test --cuid 40906145C76224192D2B\n   inkan mapping test --operation format --atr 3B759400006202020000 --applet 1.4 --protocol 1.1 --key-size 128",
				Flags: []cli.Flag{
					operation,
					&cli.StringFlag{Name: "cuid", Usage: "the card's `CUID`"},
					&cli.StringFlag{Name: "atr", Usage: "the card's `ATR`"},
					&cli.StringFlag{Name: "protocol", Usage: "`MAJOR.MINOR` of the applet's protocol, 0.0 without applet"},
					&cli.StringFlag{Name: "applet", Usage: "`MAJOR.MINOR` of the applet, 0.0 without"},
					&cli.IntFlag{Name: "key-size", Usage: "`BITS` of the card manager's keys"},
					&cli.BoolFlag{Name: "unmanaged", Usage: "the card has no card manager"},
					&cli.StringFlag{Name: "token-type", Usage: "`TYPE` that the client wishes for"},
					&cli.StringFlag{Name: "key-set", Usage: "`SET` that the client wishes for"},
					&cli.StringFlag{Name: "profile", Usage: "`PROFILE` that the client requires"},
				},
				Action: p.testMapping,
			},
		},
	}
}

func (p *program) listMappings(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.ProfileMapping]
		if err := r.get(c.Context, "/profile-mappings", nil, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			rows := mappingRows(l.Entries)
			if len(rows) == 0 {
				fmt.Fprintln(w, "No mappings.")
				return
			}
			table(w, "MAPPINGS\tOPERATIONS\tNO\tFILTER\tTARGET\tTITLE", len(rows), func(i int) string { return strings.Join(rows[i], "\t") })
		})
	})
}

// mappingRows are the rows of the table, one per mapping; of a document that can
// no longer be read, why.
func mappingRows(all []api.ProfileMapping) (rows [][]string) {
	for _, x := range all {
		if x.Problem != "" {
			rows = append(rows, []string{x.ID, "-", "-", "-", "-", "unreadable: " + x.Problem})
		}
		for i, m := range x.Mappings {
			rows = append(rows, []string{x.ID, strings.Join(x.Operations, ", "), strconv.Itoa(i + 1), m.Filter, m.Target, dash(cmp.Or(m.Title, x.Title))})
		}
	}
	return rows
}

func mappingPath(name string) string { return "/profile-mappings/" + url.PathEscape(name) }

func (p *program) showMapping(c *cli.Context) error {
	name, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var x api.ProfileMapping
		if err := r.get(c.Context, mappingPath(name), nil, &x); err != nil {
			return err
		}
		if !isSet(c, "json") && !isSet(c, "quiet") {
			fmt.Fprintf(p.err, "Mappings %s, revision %d.\n", x.ID, x.Revision)
			if x.Problem != "" {
				fmt.Fprintf(p.err, "The document cannot be read: %s\n", printable(x.Problem))
			}
			p.warnOf(x)
		}
		return p.print(c, x, func(w io.Writer) { fmt.Fprintf(w, "%s\n", strings.TrimRight(x.Document, "\n")) })
	})
}

func (p *program) warnOf(x api.ProfileMapping) {
	for _, w := range x.Warnings {
		fmt.Fprintf(p.err, "Warning: %s\n", printable(w))
	}
}

func (p *program) setMapping(c *cli.Context) error {
	file, document, err := p.readDocument(c)
	if err != nil {
		return err
	}
	x, err := profile.DecodeResolver(document)
	if err != nil {
		return fmt.Errorf("%s is not taken: %w", file, err)
	}
	return p.withNode(c, func(r rest) error {
		out, err := putDocument[api.ProfileMapping](c, r, mappingPath(x.Name), document, "there are mappings "+x.Name)
		if err != nil {
			return err
		}
		if !isSet(c, "quiet") {
			p.warnOf(out)
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Mappings %s have revision %d and serve.\n", out.ID, out.Revision)
		})
	})
}

func (p *program) deleteMapping(c *cli.Context) error {
	name, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var etag string
		var x api.ProfileMapping
		if err := r.call(c.Context, request{method: http.MethodGet, path: mappingPath(name), etag: &etag, out: &x}); err != nil {
			return err
		}
		if err := r.call(c.Context, request{method: http.MethodDelete, path: mappingPath(name), match: etag}); err != nil {
			return err
		}
		return p.print(c, x, func(w io.Writer) { fmt.Fprintf(w, "Deleted mappings %s.\n", name) })
	})
}

func (p *program) testMapping(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q := url.Values{}
	for flag, name := range map[string]string{"operation": "operation", "cuid": "tokenID", "atr": "tokenATR", "protocol": "protocolVersion",
		"applet": "appletVersion", "token-type": "tokenType", "key-set": "keySet", "profile": "profile"} {
		if v := c.String(flag); v != "" {
			q.Set(name, v)
		}
	}
	if c.Bool("unmanaged") {
		q.Set("unmanaged", "true")
	}
	if c.IsSet("key-size") {
		q.Set("symKeySize", strconv.Itoa(c.Int("key-size")))
	}
	return p.withNode(c, func(r rest) error {
		var x api.ProfileChoice
		if err := r.get(c.Context, "/profile-choice", q, &x); err != nil {
			return err
		}
		if err := p.print(c, x, func(w io.Writer) { printChoice(w, x) }); err != nil || x.Problem == "" {
			return err
		}
		return fmt.Errorf("the card would be refused: %s", x.Problem)
	})
}

// choiceReasons say why it is this profile.
var choiceReasons = map[string]string{
	"request": "the client requires it", "card": "the card was enrolled with it", "mapping": "the mapping says so",
	"tokenType": "the client wishes for it and no mapping passes", "default": "the default: no mapping passes",
}

func printChoice(w io.Writer, x api.ProfileChoice) {
	for _, v := range x.Visits {
		said := "no: " + v.Why
		if v.Wins {
			said = "wins: " + v.Target
		}
		if v.Title != "" {
			said += " (" + v.Title + ")"
		}
		fmt.Fprintf(w, "mapping %d of %s: %s\n", v.Number, v.Mappings, printable(said))
	}
	if x.Problem != "" {
		return
	}
	field(w, "profile", fmt.Sprintf("%s (%s)", x.Profile, choiceReasons[x.By]))
	keys := fmt.Sprintf("%s version %02X", x.KeySet, x.KeyVersion)
	if x.KeyVersion == 0 {
		keys = "those the card has"
	}
	field(w, "keys", keys)
	field(w, "maker's keys", x.Factory)
	field(w, "applet", x.Applet)
}
