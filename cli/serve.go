package cli

import (
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"inkan/cli/server"
)

func (p *program) serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run a node",
		Description: "Runs the node whose state is in the data folder until it is interrupted. The address and the\n" +
			"fingerprint of its authority are printed at the start: people compare it when a card client asks.\n" +
			"Card clients that have no TLS (Dogtag's tpsclient) are served on this machine only, where the\n" +
			"configuration says so: [listen] plain = \"127.0.0.1:8080\". In an array [node] roles says what of this a node\n" +
			"does; one with the role tks alone opens the array's port and no other.\n\n" +
			"   inkan --data /var/lib/inkan serve\n   inkan --data /var/lib/inkan serve --wait-hsm 5m",
		Flags: []cli.Flag{&cli.DurationFlag{Name: "wait-hsm", Usage: "wait so long for an HSM, or for a node with keys, that does not answer (`5m`)"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			o := p.options(c, slog.LevelInfo)
			o.WaitHSM = c.Duration("wait-hsm")
			n, err := server.Open(c.Context, c.String("data"), o)
			if err != nil {
				return p.explained(c, err)
			}
			defer n.Close()
			return n.Serve(c.Context, func(l server.Listener) {
				result := map[string]string{}
				if l.Address != "" {
					result = map[string]string{"address": l.Address, "url": n.Config.Listen.URL, "fingerprint": l.Fingerprint.String()}
				}
				if l.Plain != "" {
					result["plain"] = l.Plain
				}
				if l.Peers != "" {
					result["peers"] = l.Peers
				}
				p.print(c, result, func(w ioWriter) {
					if l.Peers != "" {
						fmt.Fprintf(w, "Inkan serves the nodes of its array (listening on %s)\n", l.Peers)
					}
					if l.Address == "" {
						return
					}
					fmt.Fprintf(w, "Inkan serves %s (listening on %s)\nFingerprint %s\n", n.Config.Listen.URL, l.Address, l.Fingerprint)
					if l.Plain != "" {
						fmt.Fprintf(w, "Warning: card clients on this machine are served at http://%s too, without TLS: passwords and PINs go over it in the clear\n", l.Plain)
					}
				})
			})
		},
	}
}
