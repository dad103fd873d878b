package cli

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/cli/sealing"
	"inkan/tps/seal"
)

// changeSlots adds a place with a sealing key, or takes one away.
func (p *program) changeSlots(c *cli.Context) error {
	add, remove := c.String("add-slot"), c.String("remove-slot")
	if (add == "") == (remove == "") || c.IsSet("recovery") || c.IsSet("not-after") {
		return usagef("%s changes one thing at a time: --add-slot, --remove-slot, or --recovery and --not-after", c.Command.FullName())
	}
	folder, o := c.String("data"), p.options(c, slog.LevelWarn)
	var out map[string]uint64
	var err error
	what := "without " + remove
	if add != "" {
		var place seal.Place
		if place, err = slotPlace(add, c.String("slot-pin-source")); err != nil {
			return err
		}
		what = "for " + place.String() + " too"
		out, err = sealing.AddSlot(c.Context, folder, place, o)
	} else {
		out, err = sealing.RemoveSlot(c.Context, folder, remove, o)
	}
	if err != nil {
		return p.explained(c, stopped(err))
	}
	return p.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "Sealed %s:\n", printable(what))
		printGenerationsOf(w, out)
	})
}

// slotPlace reads what --add-slot says: a token's URI, or cred:NAME.
func slotPlace(add, pinSource string) (seal.Place, error) {
	if name, ok := strings.CutPrefix(add, credentialModule); ok {
		if pinSource != "" {
			return seal.Place{}, usagef("a credential has no PIN: leave --slot-pin-source out")
		}
		return seal.Place{Credential: name}, seal.CheckCredential(name)
	}
	_, t, source, err := sealing.TokenOf(add)
	if err != nil {
		return seal.Place{}, usagef("--add-slot %q: want cred:NAME, or the URI of a token: pkcs11:token=LABEL?module-path=PATH", add)
	}
	source = defaultString(pinSource, defaultString(source, "prompt"))
	return seal.Place{URI: t.URI, PINSource: source}, seal.CheckPINSource(source)
}
