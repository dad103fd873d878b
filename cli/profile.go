package cli

import (
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

func (p *program) profileCommand() *cli.Command {
	return &cli.Command{
		Name:  "profile",
		Usage: "what operations do to a kind of card",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list profiles", Description: "   inkan profile list\n   inkan profile list --json", Action: p.listProfiles},
			{
				Name: "show", Usage: "print a profile's document", ArgsUsage: "NAME",
				Description: "The document goes to standard output, its state and revision to standard error.\n\n   inkan profile show userKey > userKey.toml",
				Action:      p.showProfile,
			},
			{
				Name: "set", Usage: "take a document as a profile, new or changed", ArgsUsage: "FILE",
				Description: "The document names the profile. It is checked as a whole: one mistake, and nothing changes. A new profile is\n" +
					"disabled. Operations that are under way are finished with the document they began with.\n\n" +
					"   inkan profile show userKey > userKey.toml\n   inkan profile set userKey.toml --revision 1\n   inkan profile set -",
				Flags:  []cli.Flag{&cli.IntFlag{Name: "revision", Usage: "only if `N` is still the newest revision, 0: only if there is none"}},
				Action: p.setProfile,
			},
			{
				Name: "enable", Usage: "let a profile serve", ArgsUsage: "NAME", Description: "   inkan profile enable userKey",
				Action: func(c *cli.Context) error { return p.changeProfile(c, "enable") },
			},
			{
				Name: "disable", Usage: "let a profile serve no longer", ArgsUsage: "NAME",
				Description: "A client that names it gets the default profile. Unfinished operations are still finished.\n\n   inkan profile disable soKey",
				Action:      func(c *cli.Context) error { return p.changeProfile(c, "disable") },
			},
		},
	}
}

func (p *program) listProfiles(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.Profile]
		if err := r.get(c.Context, "/profiles", nil, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			if len(l.Entries) == 0 {
				fmt.Fprintln(w, "No profile.")
				return
			}
			table(w, "NAME\tSTATE\tREVISION\tOPERATIONS\tTITLE", len(l.Entries), func(i int) string {
				x := l.Entries[i]
				title := x.Title
				if x.Problem != "" {
					title = "unreadable: " + x.Problem
				}
				return strings.Join([]string{x.ID, profileState(x), strconv.Itoa(x.Revision), dash(strings.Join(x.Operations, ", ")), dash(title)}, "\t")
			})
		})
	})
}

// profileState is the state in this program's words.
func profileState(x api.Profile) string {
	if x.Status == "Pending_Approval" {
		return "waits for an agent"
	}
	return strings.ToLower(x.Status)
}

func profilePath(name string) string { return "/profiles/" + url.PathEscape(name) }

func (p *program) showProfile(c *cli.Context) error {
	name, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var x api.Profile
		if err := r.get(c.Context, profilePath(name), nil, &x); err != nil {
			return err
		}
		if !isSet(c, "json") && !isSet(c, "quiet") {
			fmt.Fprintf(p.err, "Profile %s is %s, revision %d.\n", x.ID, profileState(x), x.Revision)
			if x.Problem != "" {
				fmt.Fprintf(p.err, "Its document cannot be read: %s\n", printable(x.Problem))
			}
		}
		return p.print(c, x, func(w io.Writer) { fmt.Fprintf(w, "%s\n", strings.TrimRight(x.Document, "\n")) })
	})
}

func (p *program) setProfile(c *cli.Context) error {
	file, document, err := p.readDocument(c)
	if err != nil {
		return err
	}
	x, err := profile.Decode(document)
	if err != nil {
		return fmt.Errorf("%s is not taken: %w", file, err)
	}
	return p.withNode(c, func(r rest) error {
		out, err := putDocument[api.Profile](c, r, profilePath(string(x.Name)), document, "there is a profile "+string(x.Name))
		if err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Profile %s has revision %d and is %s.\n", out.ID, out.Revision, profileState(out))
			if out.Status != "Enabled" {
				fmt.Fprintf(w, "Let it serve: inkan profile enable %s\n", out.ID)
			}
		})
	})
}

func (p *program) changeProfile(c *cli.Context, action string) error {
	name, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var etag string
		if err := r.call(c.Context, request{method: http.MethodGet, path: profilePath(name), etag: &etag}); err != nil {
			return err
		}
		var out api.Profile
		if err := r.call(c.Context, request{method: http.MethodPost, path: profilePath(name) + "?action=" + action, match: etag, out: &out}); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) { fmt.Fprintf(w, "Profile %s is %s.\n", out.ID, profileState(out)) })
	})
}
