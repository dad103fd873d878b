package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
)

func (p *program) operationCommand() *cli.Command {
	return &cli.Command{
		Name:  "operation",
		Usage: "what was begun on cards, and what is left of it",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list unfinished operations",
				Description: "   inkan operation list\n   inkan operation list --all --token 40906145C76224192D2B",
				Flags: listFlags(
					&cli.BoolFlag{Name: "all", Usage: "also those that are finished"},
					&cli.StringFlag{Name: "token", Usage: "only operations on the card `CUID`"},
					&cli.StringFlag{Name: "user", Usage: "only operations of the person `NAME`"},
				),
				Action: p.listOperations,
			},
			{
				Name: "show", Usage: "show an operation: its steps, whether the card is safe, what to do next", ArgsUsage: "ID",
				Description: "   inkan operation show 01980a3c-5f2e-7b11-9f3a-0c7d6f1e2a3b", Action: p.showOperation,
			},
		},
	}
}

func (p *program) listOperations(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q, err := listQuery(c, map[string]string{"token": "tokenID", "user": "userID"})
	if err != nil {
		return err
	}
	if !c.Bool("all") {
		q.Set("open", "true")
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.Operation]
		if err := r.get(c.Context, "/operations", q, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			if len(l.Entries) == 0 {
				fmt.Fprintln(w, "No operation.")
				return
			}
			table(w, "ID\tSTARTED\tOPERATION\tTOKEN\tUSER\tRESULT\tAT", len(l.Entries), func(i int) string {
				o := l.Entries[i]
				return strings.Join([]string{o.ID, moment(o.Started), o.Operation, o.TokenID, dash(o.UserID), operationResult(o), lastStep(o)}, "\t")
			})
			printMore(w, len(l.Entries), l.Total, l.Next)
		})
	})
}

func operationResult(o api.Operation) string {
	if o.Ended == 0 {
		return "unfinished"
	}
	return dash(o.Result)
}

// lastStep names the step that an operation came to.
func lastStep(o api.Operation) string {
	if len(o.Steps) == 0 {
		return "-"
	}
	return o.Steps[len(o.Steps)-1].Name
}

func (p *program) showOperation(c *cli.Context) error {
	id, err := oneArgument(c, "ID")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var o api.Operation
		if err := r.get(c.Context, "/operations/"+url.PathEscape(id), nil, &o); err != nil {
			return err
		}
		return p.print(c, o, func(w io.Writer) { printOperation(w, o) })
	})
}

func printOperation(w io.Writer, o api.Operation) {
	field(w, "Operation", o.Operation+" "+o.ID)
	field(w, "Token", o.TokenID)
	field(w, "User", dash(o.UserID))
	field(w, "Profile", o.Type)
	field(w, "Address", o.IP)
	field(w, "Started", moment(o.Started))
	field(w, "Ended", moment(o.Ended))
	field(w, "Result", operationResult(o))
	field(w, "Message", o.Message)
	if o.Ended == 0 {
		field(w, "Card", safety[o.Card].String())
		field(w, "Next", nextAction(o))
	}
	if len(o.Steps) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "STEP\tTIME\tSTATE", len(o.Steps), func(i int) string {
		s := o.Steps[i]
		state := "begun, nobody knows whether it happened"
		if s.Confirmed {
			state = "done"
		}
		return strings.Join([]string{s.Name, moment(s.Time), state}, "\t")
	})
}
