package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/tps/api"
	"inkan/tps/token"
)

// stateWords are the states as people say them; the names of the records do too.
var stateWords = map[string]token.State{
	"LOST": token.PermLost, "TEMP_LOST": token.Suspended, "REUSE": token.Unformatted,
}

// found is the word for what a suspended card was before.
const found = "FOUND"

// revoking are the states that revoke certificates for good.
var revoking = []token.State{token.PermLost, token.Damaged, token.Terminated}

func (p *program) setTokenState(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("%s takes two arguments: CUID STATE", c.Command.FullName())
	}
	cuid, err := apdu.ParseCUID(c.Args().Get(0))
	if err != nil {
		return usageError{err}
	}
	word := strings.ToUpper(strings.ReplaceAll(c.Args().Get(1), "-", "_"))
	state, known := stateWords[word]
	if !known && word != found {
		if state, err = token.ParseState(word); err != nil {
			return usageError{err}
		}
	}
	return p.withNode(c, func(r rest) error {
		path := "/tokens/" + cuid.String()
		var t api.Token
		if err := r.get(c.Context, path, nil, &t); err != nil {
			return err
		}
		if word == found {
			if state, err = stateBefore(t); err != nil {
				return err
			}
		}
		if err := p.confirmState(c, t, state); err != nil {
			return err
		}
		var out api.TokenState
		if err := r.call(c.Context, request{method: http.MethodPost, path: path + "?" + url.Values{"status": {string(state)}}.Encode(), out: &out}); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) { printState(w, t, out) })
	})
}

// stateBefore is the state that a found card goes back to.
func stateBefore(t api.Token) (token.State, error) {
	if t.Status.Name.Name == string(token.Suspended) {
		for _, s := range []token.State{token.Active, token.Formatted} {
			if allows(t, s) {
				return s, nil
			}
		}
	}
	return "", fmt.Errorf("card %s is %s, not SUSPENDED: nobody misses it", t.TokenID, t.Status.Name.Name)
}

func allows(t api.Token, s token.State) bool {
	return slices.ContainsFunc(t.NextStates, func(n api.Status) bool { return n.Name.Name == string(s) })
}

// confirmState asks before certificates are revoked for good.
func (p *program) confirmState(c *cli.Context, t api.Token, s token.State) error {
	if c.Bool("yes") || !slices.Contains(revoking, s) || !allows(t, s) { // what is not possible the node refuses
		return nil
	}
	yes, err := p.confirm(fmt.Sprintf("Card %s of %s becomes %s and its certificates are revoked for good. Go on", t.TokenID, dash(t.UserID), s))
	switch {
	case err != nil:
		return fmt.Errorf("%w; --yes answers it", err)
	case !yes:
		return fmt.Errorf("nothing was changed: card %s stays %s", t.TokenID, t.Status.Name.Name)
	}
	return nil
}

func printState(w io.Writer, was api.Token, out api.TokenState) {
	if was.Status == out.Status {
		fmt.Fprintf(w, "Card %s is %s already.\n", out.TokenID, out.Status.Name.Name)
		return
	}
	fmt.Fprintf(w, "Card %s is %s, it was %s.\n", out.TokenID, out.Status.Name.Name, was.Status.Name.Name)
	pending := false
	for _, x := range out.Certificates {
		fmt.Fprintf(w, "Certificate %s (%s) is %s.\n", serialOf(x), printable(x.KeyType), strings.ReplaceAll(certificateState(x), "_", " "))
		pending = pending || x.Pending != ""
	}
	if pending {
		fmt.Fprintln(w, "The authority did not take every revocation: the node asks it again until it does.")
	}
	if out.Status.Name.Name == string(token.Unformatted) {
		fmt.Fprintln(w, "What is on the card stays there until it is formatted.")
	}
}
