package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu"
	"inkan/tps/api"
	"inkan/tps/token"
)

const policyHelp = "What is not named stays as it is; \"default\" takes the card's own policy away.\n\n" +
	"  RE_ENROLL=YES                  it may be enrolled again\n" +
	"  RENEW=NO                       YES: whoever asks for an enrollment of the active card gets a renewal, which keeps\n" +
	"                                 the keys; for clients that know no renewal\n" +
	"  RENEW_KEEP_OLD_ENC_CERTS=YES   former certificates of keys that decrypt stay on a CoolKey card\n" +
	"  FORCE_FORMAT=NO                YES: it is formatted before the next enrollment\n" +
	"  PIN_RESET=YES                  its owner may set a new PIN\n" +
	"  RESET_PIN_RESET_TO_NO=NO       YES: once\n\n" +
	"   inkan token set-policy 40906145C76224192D2B RENEW=YES\n   inkan token set-policy 40906145C76224192D2B default"

func (p *program) policyCommand() *cli.Command {
	return &cli.Command{
		Name: "set-policy", Usage: "say what may be done with a card again", ArgsUsage: "CUID NAME=VALUE...", Description: policyHelp,
		Action: p.setTokenPolicy,
	}
}

func (p *program) setTokenPolicy(c *cli.Context) error {
	if c.NArg() < 2 {
		return usagef("%s takes CUID NAME=VALUE...", c.Command.FullName())
	}
	cuid, err := apdu.ParseCUID(c.Args().First())
	if err != nil {
		return usageError{err}
	}
	text := strings.Join(c.Args().Tail(), ";")
	return p.withNode(c, func(r rest) error {
		path := "/tokens/" + cuid.String()
		var t api.Token
		var tag string
		if err := r.call(c.Context, request{method: http.MethodGet, path: path, etag: &tag, out: &t}); err != nil {
			return err
		}
		next, err := changedPolicy(t.Policy, text)
		if err != nil {
			return usageError{err}
		}
		body, err := json.Marshal(map[string]string{"Policy": next})
		if err != nil {
			return err
		}
		var out api.Token
		if err := r.call(c.Context, request{method: http.MethodPatch, path: path, match: tag, body: body, out: &out}); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintf(w, "Card %s has the policy %s.\n", out.TokenID, orDefault(out.Policy))
		})
	})
}

// changedPolicy is the text of a card's policy after a change, empty for the default.
func changedPolicy(was, change string) (string, error) {
	if change == "default" {
		return "", nil
	}
	p, err := token.ParsePolicy(was)
	if err != nil {
		p = token.DefaultPolicy() // what cannot be read refuses operations: the way out is to write another
	}
	if p, err = p.With(change); err != nil {
		return "", err
	}
	return p.String(), nil
}

// orDefault says what an empty policy means.
func orDefault(policy string) string {
	if policy == "" {
		return token.DefaultPolicy().String() + ", the default"
	}
	return policy
}
