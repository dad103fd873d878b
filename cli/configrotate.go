package cli

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/cli/sealing"
)

// rotated is what rotate-key did.
type rotated struct {
	*sealing.Rotation   `json:",omitempty"`
	*sealing.Retirement `json:",omitempty"`
}

func (p *program) configRotate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	only := c.Bool("retire-only")
	retire := only || c.Bool("retire-old")
	if retire {
		if err := p.sure(c, "Replaced keys that no backup of the list needs will be destroyed. Go on"); err != nil {
			return err
		}
	}
	var out rotated
	if !only {
		r, err := sealing.RotateKey(c.Context, folder, o)
		if err != nil {
			return p.explained(c, stopped(err))
		}
		out.Rotation = &r
	}
	if retire {
		r, err := sealing.RetireKeys(c.Context, folder, o)
		if err != nil {
			return p.explained(c, stopped(err))
		}
		out.Retirement = &r
	}
	return p.print(c, out, func(w io.Writer) { printRotated(w, out) })
}

func printRotated(w io.Writer, out rotated) {
	if r := out.Rotation; r != nil {
		fmt.Fprintf(w, "Everything is under %s now.", r.New)
		if out.Retirement == nil {
			fmt.Fprintf(w, " %s stays in the HSM: backups from before need it.", r.Old)
		}
		fmt.Fprintln(w)
		printGenerationsOf(w, r.Generations)
	}
	if out.Retirement == nil {
		return
	}
	for _, label := range out.Destroyed {
		fmt.Fprintf(w, "%s is destroyed.\n", label)
	}
	for _, label := range slices.Sorted(maps.Keys(out.Kept)) {
		fmt.Fprintf(w, "%s stays: these backups need it: %s. Once they are deleted: inkan backup forget FILE, inkan config rotate-key --retire-only\n",
			label, printable(strings.Join(out.Kept[label], ", ")))
	}
	if len(out.Destroyed)+len(out.Kept) == 0 {
		fmt.Fprintln(w, "There is no key that was replaced.")
	}
}
