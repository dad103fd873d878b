package cli

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"inkan/tks"
	"inkan/tps/api"
)

// showSecret prints a PIV card's PUK or management key, alone on its line.
func (p *program) showSecret(c *cli.Context) error {
	cuid, err := cuidArgument(c)
	if err != nil {
		return err
	}
	use := tks.PUK
	if c.Bool("management-key") {
		use = tks.ManagementKey
	}
	if c.Bool("puk") == c.Bool("management-key") {
		return usagef("%s takes --puk or --management-key, one of them", c.Command.FullName())
	}
	return p.withNode(c, func(r rest) error {
		var out api.CardSecret
		defer func() { out.Secret.Wipe() }()
		if err := r.post(c.Context, "/tokens/"+cuid.String()+"/secret", api.SecretRequest{Use: string(use)}, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) { fmt.Fprintf(w, "%s\n", out.Secret.Bytes()) })
	})
}
