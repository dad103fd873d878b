package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/cli/sealing"
	"inkan/cli/server"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "find out why a node does not start, and what to do",
		Description: "Checks folder, module, token, PIN, sealing key, every sealed file, certificate, space and clock, and changes\n" +
			"nothing. A node that runs is asked whether database, keys, authority and the nodes that have keys for it answer,\n" +
			"and how it stands in its array: whether all nodes agree, its peer certificate, the others' clocks.\n" +
			"A line says OK, WARN or FAIL, what was seen, and what to do next; serve refuses in the same words.\n" +
			"Exit status 1 where a line says FAIL.\n\n   inkan doctor\n   inkan doctor --no-login\n   inkan doctor --json",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "no-login", Usage: "do not log in to the HSM"}},
		Action: p.doctor,
	}
}

func (p *program) doctor(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	found := sealing.Diagnose(c.Context, c.String("data"), !c.Bool("no-login"), p.options(c, slog.LevelError))
	found = append(found, runningFindings(c.Context, c.String("data"))...)
	err := p.print(c, found, func(w io.Writer) {
		for _, f := range found {
			fmt.Fprintf(w, "%-4s  %s: %s\n", f.Verdict, f.Check, printable(f.Evidence))
			if f.Next != "" {
				fmt.Fprintf(w, "      next: %s\n", printable(f.Next))
			}
		}
	})
	failed := 0
	for _, f := range found {
		if f.Verdict == sealing.Failed {
			failed++
		}
	}
	if failed > 0 {
		return errors.Join(fmt.Errorf("%d of %d checks failed", failed, len(found)), err)
	}
	return err
}

// runningFindings are what a node that runs says of itself: its database, its keys or
// the nodes that have them for it, its authority.
func runningFindings(ctx context.Context, folder string) []sealing.Finding {
	state, err := server.Running(ctx, folder)
	if err != nil {
		return []sealing.Finding{{Check: "running node", Verdict: sealing.Failed, Evidence: err.Error(), Next: "look at its log"}}
	}
	if state == nil {
		return nil
	}
	var out []sealing.Finding
	for _, what := range slices.Sorted(maps.Keys(state.Parts)) {
		f := sealing.Finding{Check: "running node, " + what, Verdict: sealing.Fine, Evidence: state.Parts[what]}
		if f.Evidence != "ok" {
			f.Verdict, f.Next = sealing.Failed, "inkan doctor on the machine of what does not answer, and the log of both"
			if what == "array" || what == "peer certificate" {
				f.Next = "inkan array status"
			} else if strings.HasPrefix(what, "clock of ") {
				f.Next = "have all nodes keep their clocks by the same time server"
			}
			if state.Ready {
				f.Verdict = sealing.Warning
			}
		}
		out = append(out, f)
	}
	return out
}
