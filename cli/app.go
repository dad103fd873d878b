// Package cli is the command line of Inkan, one file per command. A command
// parses its flags into a value, calls the rooms behind it, and prints. Hints to
// people are added here and nowhere else.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"inkan/tks/hsm/softkey"
)

// Exit statuses of every command.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed; finer codes are fields of the message
	exitUsage  = 2
)

// program is one call of the command line.
type program struct {
	in       io.Reader
	out, err io.Writer
	keyCost  *softkey.Params // of the key files that init makes; nil = the default. Tests take less
}

// Main runs the command line args (without the program's name in args[0] it is an
// error) and returns the exit status. Interrupts end the context of the command.
func Main(args []string, in io.Reader, out, err io.Writer) int {
	return (&program{in: in, out: out, err: err}).main(args)
}

func (p *program) main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := p.app()
	if e := app.RunContext(ctx, interspersed(app, args)); e != nil {
		return p.fail(e)
	}
	return exitDone
}

// usageError is wrong usage: exit status 2.
type usageError struct{ error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// reported is an error that a command has printed itself.
type reported struct{ error }

func (p *program) fail(e error) int {
	var usage usageError
	if errors.As(e, &usage) {
		fmt.Fprintf(p.err, "inkan: %v\nRun inkan with -h after the command for its use.\n", e)
		return exitUsage
	}
	var done reported
	if !errors.As(e, &done) {
		fmt.Fprintf(p.err, "inkan: %v\n", e)
	}
	return exitFailed
}

func (p *program) app() *cli.App {
	return &cli.App{
		Name:                      "inkan",
		Usage:                     "issues smart cards and looks after them",
		Version:                   version(),
		Reader:                    p.in,
		Writer:                    p.out,
		ErrWriter:                 p.err,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true, // names of people have commas
		HideHelpCommand:           true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usageError{err} },
		CommandNotFound:           nil,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Value: defaultData(), Usage: "`FOLDER` with all state of the node"},
			&cli.BoolFlag{Name: "json", Usage: "print results as JSON"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but errors"},
			&cli.BoolFlag{Name: "debug", Usage: "log every step to standard error"},
		},
		Commands: p.commands(),
	}
}

func (p *program) commands() []*cli.Command {
	cs := []*cli.Command{
		p.demoCommand(), p.initCommand(), p.serveCommand(), p.kioskCommand(), p.cardCommand(), p.simCommand(), p.gpCommand(),
		p.keysetCommand(), remote(p.profileCommand()), remote(p.mappingCommand()), remote(p.userCommand()), remote(p.tokenCommand()),
		remote(p.certCommand()), remote(p.activityCommand()), remote(p.operationCommand()),
		p.caCommand(), p.realmCommand(), p.loginCommand(), p.logoutCommand(), p.configCommand(), p.doctorCommand(),
		p.arrayCommand(), p.auditCommand(), p.backupCommand(), p.restoreCommand(),
	}
	for _, c := range cs {
		p.complete(c)
	}
	return cs
}

// complete gives a command and those below it what all have in common.
func (p *program) complete(c *cli.Command) {
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	c.HideHelpCommand = true
	group := len(c.Subcommands) > 0 && c.Action == nil
	if group {
		c.Action = func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return usagef("%s has no command %q", ctx.Command.Name, ctx.Args().First())
			}
			return cli.ShowSubcommandHelp(ctx)
		}
	}
	if !group {
		c.Flags = append(c.Flags, &cli.BoolFlag{Name: "json", Usage: "print results as JSON"}, &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but errors"})
	}
	for _, sub := range c.Subcommands {
		p.complete(sub)
	}
}

// isSet reports a flag that may stand before or after the command.
func isSet(c *cli.Context, name string) bool {
	for _, l := range c.Lineage() {
		if l.Command != nil && l.Bool(name) {
			return true
		}
	}
	return false
}

// print writes a result: as JSON, or by text. Quiet prints nothing.
func (p *program) print(c *cli.Context, v any, text func(io.Writer)) error {
	switch {
	case isSet(c, "json"):
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case isSet(c, "quiet"):
		return nil
	}
	text(p.out)
	return nil
}

// logger writes to standard error: warnings, or everything with --debug.
func (p *program) logger(c *cli.Context, level slog.Level) *slog.Logger {
	if isSet(c, "debug") {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: level}))
}

// defaultData is the data folder: that of the service for root where it is there.
func defaultData() string {
	const service = "/var/lib/inkan"
	for _, name := range []string{"/inkan.toml", "/seal.toml"} {
		if _, err := os.Stat(service + name); err == nil {
			return service
		}
	}
	return "inkan-data"
}

// noArguments refuses what a command does not take.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument %q", c.Command.FullName(), strings.Join(c.Args().Slice(), " "))
	}
	return nil
}

// oneArgument returns the single argument of a command.
func oneArgument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s takes one argument: %s", c.Command.FullName(), what)
	}
	return c.Args().First(), nil
}
