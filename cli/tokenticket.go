package cli

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"inkan/tps"
	"inkan/tps/api"
)

func (p *program) ticketCommand() *cli.Command {
	return &cli.Command{
		Name: "ticket", Usage: "let a person reset the PIN of a card, enroll or renew it, once without their password", ArgsUsage: "CUID",
		Description: "The ticket is good for 15 minutes, for that person, operation and card, at a card client that is given it with\n" +
			"--ticket-file. Agents issue tickets for anybody, others for themselves. Whoever has the ticket and the card can\n" +
			"use it: hand it over like a password.\n\n" +
			"   inkan token ticket 40906145C76224192D2B --user ada > ticket.txt\n" +
			"   inkan card reset-pin --server https://tps.example:8443 --ticket-file ticket.txt",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "`NAME` of the person; default: you"},
			&cli.StringFlag{Name: "operation", Value: string(tps.OpPINReset), Usage: "`NAME`: pin-reset, enroll or renew"},
		},
		Action: p.issueTicket,
	}
}

func (p *program) issueTicket(c *cli.Context) error {
	cuid, err := oneArgument(c, "CUID")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var out struct {
			api.Ticket
			Text string `json:"ticket"`
		}
		in := api.NewTicket{TokenID: cuid, UserID: c.String("user"), Operation: c.String("operation")}
		if err := r.post(c.Context, "/tickets", in, &out); err != nil {
			return err
		}
		return p.print(c, out, func(w io.Writer) {
			fmt.Fprintln(w, out.Text)
			fmt.Fprintf(p.err, "Good once, for %s on card %s, until %s.\n", out.Operation, out.TokenID, moment(out.Expires))
		})
	})
}
