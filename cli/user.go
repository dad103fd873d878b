package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/auth"
)

func (p *program) userCommand() *cli.Command {
	password := &cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password, - for standard input"}
	return &cli.Command{
		Name:  "user",
		Usage: "local users",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a person", ArgsUsage: "NAME",
				Description: "The person logs in with NAME. Name, mail and UPN go into certificates. Roles: admin (people, key sets,\n" +
					"configuration), agent (certificates, releases), operator (cards of others). Without one a person has\n" +
					"their own card.\n\n" +
					"   inkan user add ada --name \"Ada Lovelace\" --mail ada@example.org --upn ada@corp.example\n" +
					"   inkan user add olga --name Olga --role operator --role agent --password-file secret.txt",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Usage: "`NAME` of the person, as certificates show it"},
					&cli.StringFlag{Name: "mail", Usage: "mail `ADDRESS`"},
					&cli.StringFlag{Name: "upn", Usage: "user principal `NAME`, for smart-card logon"},
					&cli.StringSliceFlag{Name: "role", Usage: "`ROLE`: admin, agent, operator; may be given again"},
					password,
				},
				Action: p.addUser,
			},
			{
				Name: "list", Usage: "list people", Description: "   inkan user list\n   inkan user list --text ada --json",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "text", Usage: "only people with `TEXT` in user or name"}},
				Action: p.listUsers,
			},
			{
				Name: "passwd", Usage: "give a person another password", ArgsUsage: "NAME", Description: "   inkan user passwd ada",
				Flags: []cli.Flag{password}, Action: p.setPassword,
			},
			{
				Name: "delete", Usage: "delete a person; their cards and certificates stay", ArgsUsage: "NAME",
				Description: "The last administrator cannot be deleted.\n\n   inkan user delete ada", Action: p.deleteUser,
			},
		},
	}
}

// newSecretFrom reads a secret from the file that a flag names, or has it typed
// twice.
func (p *program) newSecretFrom(c *cli.Context, flag, what string) (secret.Secret, error) {
	if file := c.String(flag); file != "" {
		return p.readSecret(file)
	}
	return p.askNew(c.Context, what)
}

func (p *program) addUser(c *cli.Context) error {
	id, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	in := api.NewUser{UserID: id, FullName: c.String("name"), Email: c.String("mail"), UPN: c.String("upn")}
	for _, s := range c.StringSlice("role") {
		role, err := auth.ParseRole(s)
		if err != nil {
			return usageError{err}
		}
		in.Roles = append(in.Roles, role)
	}
	password, err := p.newSecretFrom(c, "password-file", "Password of "+id)
	if err != nil {
		return err
	}
	defer password.Wipe()
	body, err := api.EncodeSecret(in, "password", password)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var u api.User
		if err := r.call(c.Context, request{method: http.MethodPost, path: "/admin/users", body: body, out: &u}); err != nil {
			return err
		}
		return p.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "Added user %s.\n", u.UserID) })
	})
}

func (p *program) listUsers(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		all, err := allUsers(c, r)
		if err != nil {
			return err
		}
		return p.print(c, all, func(w io.Writer) {
			if len(all.Entries) == 0 {
				fmt.Fprintln(w, "Nobody.")
				return
			}
			table(w, "USER\tNAME\tMAIL\tUPN\tROLES", len(all.Entries), func(i int) string {
				u := all.Entries[i]
				return strings.Join([]string{u.UserID, dash(u.FullName), dash(u.Email), dash(u.UPN), dash(roleText(u.Roles))}, "\t")
			})
		})
	})
}

// allUsers reads every page.
func allUsers(c *cli.Context, r rest) (api.List[api.User], error) {
	all := api.List[api.User]{Entries: []api.User{}}
	for {
		q := url.Values{"size": {fmt.Sprint(api.MaxSize)}, "start": {fmt.Sprint(len(all.Entries))}}
		if t := c.String("text"); t != "" {
			q.Set("filter", t)
		}
		var l api.List[api.User]
		if err := r.get(c.Context, "/admin/users", q, &l); err != nil {
			return all, err
		}
		all.Entries, all.Total = append(all.Entries, l.Entries...), l.Total
		if len(l.Entries) < api.MaxSize {
			return all, nil
		}
	}
}

func roleText(roles []auth.Role) string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return strings.Join(s, ", ")
}

func userPath(id string) string { return "/admin/users/" + url.PathEscape(id) }

func (p *program) setPassword(c *cli.Context) error {
	id, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	password, err := p.newSecretFrom(c, "password-file", "New password of "+id)
	if err != nil {
		return err
	}
	defer password.Wipe()
	body, err := api.EncodeSecret(struct{}{}, "password", password)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var u api.User
		var tag string
		if err := r.call(c.Context, request{method: http.MethodGet, path: userPath(id), etag: &tag, out: &u}); err != nil {
			return err
		}
		if err := r.call(c.Context, request{method: http.MethodPatch, path: userPath(id), match: tag, body: body, out: &u}); err != nil {
			return err
		}
		return p.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "The password of %s is changed.\n", id) })
	})
}

// deletedUser is what deleting prints.
type deletedUser struct {
	UserID string   `json:"UserID"`
	Tokens []string `json:"Tokens"` // cards that are still theirs
}

func (p *program) deleteUser(c *cli.Context) error {
	id, err := oneArgument(c, "NAME")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var tag string
		var u api.User
		if err := r.call(c.Context, request{method: http.MethodGet, path: userPath(id), etag: &tag, out: &u}); err != nil {
			return err
		}
		var cards api.List[api.Token]
		if err := r.get(c.Context, "/tokens", url.Values{"userID": {id}, "size": {"1000"}}, &cards); err != nil {
			return err
		}
		if err := r.call(c.Context, request{method: http.MethodDelete, path: userPath(id), match: tag}); err != nil {
			return err
		}
		out := deletedUser{UserID: id, Tokens: []string{}}
		for _, t := range cards.Entries {
			out.Tokens = append(out.Tokens, t.TokenID)
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Deleted user %s.\n", id)
			for _, t := range out.Tokens {
				fmt.Fprintf(w, "Card %s is still theirs and its certificates stay valid: inkan token show %s\n", t, t)
			}
		})
	})
}
