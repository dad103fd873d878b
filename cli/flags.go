package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst puts the flags that stand behind a command's arguments before them:
// inkan cert revoke 1234 --reason superseded. What it does not know it leaves to
// the parser, and everything behind -- alone.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out := args[:1:1]
	rest := args[1:]
	flags, commands := app.Flags, app.Commands
	for {
		taken := leading(flags, rest)
		out, rest = append(out, rest[:taken]...), rest[taken:]
		if len(rest) == 0 {
			return out
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		if i < 0 {
			return append(out, reorder(flags, rest)...)
		}
		out, rest = append(out, rest[0]), rest[1:]
		flags, commands = commands[i].Flags, commands[i].Subcommands
	}
}

// leading counts the words of the flags at the beginning.
func leading(flags []cli.Flag, words []string) int {
	n := 0
	for n < len(words) {
		w := width(flags, words[n:])
		if w == 0 {
			return n
		}
		n += w
	}
	return n
}

// reorder puts flags before arguments.
func reorder(flags []cli.Flag, words []string) []string {
	var first, then []string
	for len(words) > 0 {
		if words[0] == "--" {
			return slices.Concat(first, then, words)
		}
		w := width(flags, words)
		if w == 0 {
			then, words = append(then, words[0]), words[1:]
			continue
		}
		first, words = append(first, words[:w]...), words[w:]
	}
	return slices.Concat(first, then)
}

// width is how many words the flag at the beginning takes; 0 if there is none.
func width(flags []cli.Flag, words []string) int {
	name := strings.TrimLeft(words[0], "-")
	if name == "" || name == words[0] || words[0] == "--" {
		return 0
	}
	if strings.Contains(name, "=") {
		return 1
	}
	for _, f := range flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		if _, isBool := f.(*cli.BoolFlag); isBool || len(words) == 1 {
			return 1
		}
		return 2
	}
	return 1 // help, or unknown: the parser says so
}
