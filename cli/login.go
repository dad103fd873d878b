package cli

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/realm"
)

func (p *program) loginCommand() *cli.Command {
	return &cli.Command{
		Name: "login", Usage: "log in to a node elsewhere, for commands with --server",
		Description: "The session lasts 8 hours, or until inkan logout. It is kept in your configuration folder, readable for you only.\n" +
			"One that your card began is good while the card is in the reader, and each command asks for the PIN.\n\n" +
			"   inkan login --server https://tps.example.org:8443 --user olga\n   inkan token list --server https://tps.example.org:8443\n" +
			"   inkan login --server https://tps.example.org:8443 --card",
		Flags: append(append(remoteFlags(),
			&cli.StringFlag{Name: "user", Usage: "your user `NAME`"},
			&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password, - for standard input"}), cardFlags()...),
		Action: p.login,
	}
}

func (p *program) logoutCommand() *cli.Command {
	return &cli.Command{
		Name: "logout", Usage: "end the session with a node elsewhere", Description: "   inkan logout --server https://tps.example.org:8443",
		Flags: remoteFlags(), Action: p.logout,
	}
}

func (p *program) login(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := chooseLogin(c); err != nil {
		return err
	}
	a, err := p.account(c)
	if err != nil {
		return err
	}
	nonce := rand.Text()
	body, err := p.loginBody(c, a, nonce)
	if err != nil {
		return err
	}
	if err := a.ask(c.Context, api.TokenPath, body); err != nil {
		return err
	}
	who, err := a.identify(c.Context, nonce)
	if err != nil {
		return err
	}
	out := loggedIn{Server: a.Server, User: who.Subject, Name: who.Name, Roles: who.Roles, At: api.Millis(who.AuthTime * 1000)}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "Logged in to %s as %s", a.Server, who.Subject)
		if len(who.Roles) > 0 {
			fmt.Fprintf(w, " (%s)", joinRoles(who.Roles))
		}
		fmt.Fprintln(w, ".")
	})
}

// loginBody is what a login asks for, with the password or with the card.
func (p *program) loginBody(c *cli.Context, a *account, nonce string) (body []byte, err error) {
	openID := map[string]any{"scope": realm.ScopeOpenID, "client_id": realm.CommandLine, "nonce": nonce}
	a.User, a.Card = c.String("user"), nil
	if c.Bool("card") {
		if a.Card, err = cardOf(c); err != nil {
			return nil, err
		}
		openID["certificate"] = true
		if err := p.show(c.Context, a); err != nil {
			return nil, err
		}
		return json.Marshal(openID)
	}
	password, err := p.secretFrom(c.Context, c.String("password-file"), "Password of "+a.User)
	if err != nil {
		return nil, err
	}
	defer password.Wipe()
	openID["UserID"] = a.User
	return api.EncodeSecret(openID, "password", password)
}

func (p *program) logout(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	a, err := p.account(c)
	if err != nil {
		return err
	}
	if a.Refresh == "" {
		return errNoSession
	}
	err = a.locked(c.Context, func() error {
		body, err := a.refreshBody()
		if err != nil {
			return err
		}
		if err := a.ask(c.Context, api.LogoutPath, body); err != nil && !isStatus(err, http.StatusUnauthorized) {
			return err
		}
		return os.Remove(a.file)
	})
	if err != nil {
		return err
	}
	return p.print(c, map[string]string{"server": a.Server}, func(w io.Writer) { fmt.Fprintf(w, "Logged out of %s.\n", a.Server) })
}
