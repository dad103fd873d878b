package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
)

func (p *program) activityCommand() *cli.Command {
	return &cli.Command{
		Name:  "activity",
		Usage: "what happened to cards",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list activities, newest first", Description: "   inkan activity list --token 40906145C76224192D2B\n   inkan activity list --user ada --size 20 --json",
				Flags: listFlags(
					&cli.StringFlag{Name: "user", Usage: "only what the person `NAME` did"},
					&cli.StringFlag{Name: "token", Usage: "only what happened to the card `CUID`"},
					&cli.StringFlag{Name: "operation", Usage: "only those of `OPERATION`: add, enrollment, format, pin_reset, key_changeover, token_status_change, cert_revocation, cert_restoration"},
					&cli.StringFlag{Name: "text", Usage: "only activities with `TEXT` in id, CUID or user"},
				),
				Action: p.listActivities,
			},
			{
				Name: "show", Usage: "show an activity", ArgsUsage: "ID", Description: "   inkan activity show 01980a3c-5f2e-7b11-9f3a-0c7d6f1e2a3b",
				Action: p.showActivity,
			},
		},
	}
}

func (p *program) listActivities(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q, err := listQuery(c, map[string]string{"user": "userID", "token": "tokenID", "operation": "operation", "text": "filter"})
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.Activity]
		if err := r.get(c.Context, "/activities", q, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			if len(l.Entries) == 0 {
				fmt.Fprintln(w, "Nothing.")
				return
			}
			printActivities(w, l.Entries)
			printMore(w, len(l.Entries), l.Total, l.Next)
		})
	})
}

func printActivities(w io.Writer, all []api.Activity) {
	table(w, "TIME\tOPERATION\tRESULT\tUSER\tTOKEN\tMESSAGE", len(all), func(i int) string {
		a := all[i]
		return strings.Join([]string{moment(a.Date), a.Operation, a.Result, dash(a.UserID), dash(a.TokenID), oneLine(a.Message)}, "\t")
	})
}

// oneLine keeps a message in its row.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (p *program) showActivity(c *cli.Context) error {
	id, err := oneArgument(c, "ID")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var a api.Activity
		if err := r.get(c.Context, "/activities/"+url.PathEscape(id), nil, &a); err != nil {
			return err
		}
		return p.print(c, a, func(w io.Writer) {
			field(w, "Time", moment(a.Date))
			field(w, "Operation", a.Operation)
			field(w, "Result", a.Result)
			field(w, "User", a.UserID)
			field(w, "From", a.IP)
			field(w, "Token", a.TokenID)
			field(w, "Profile", a.Type)
			field(w, "Message", a.Message)
			field(w, "Reference", a.Reference)
			field(w, "Id", a.ID)
		})
	})
}
