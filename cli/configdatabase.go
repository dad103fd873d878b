package cli

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/urfave/cli/v2"

	"inkan/cli/config"
	"inkan/cli/sealing"
)

func (p *program) configMoveDatabase(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	to := config.Database{URL: c.String("url"), PasswordFile: c.String("password-file")}
	if to.URL == "" {
		return usagef("%s needs --url: postgres://user@host/database", c.Command.FullName())
	}
	if to.PasswordFile != "" {
		to.PasswordFile = absolute(to.PasswordFile)
	}
	moved, err := sealing.MoveDatabase(c.Context, c.String("data"), to, p.options(c, slog.LevelWarn))
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, moved, func(w io.Writer) {
		table(w, "TABLE\tRECORDS", len(moved.Tables), func(i int) string {
			return fmt.Sprintf("%s\t%d", moved.Tables[i].Table, moved.Tables[i].Rows)
		})
		fmt.Fprintf(w, "The records are in %s, and the configuration says so from the next start on.\n"+
			"%s stays as it is and is used no more: keep it until the node has run, then remove it.\n", printable(moved.To), printable(moved.From))
	})
}
