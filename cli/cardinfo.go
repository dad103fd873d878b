package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/cli/station"
	"inkan/pcsc"
)

func (p *program) listCards(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	svc, err := pcsc.Open(c.Context)
	if err != nil {
		return err
	}
	defer svc.Close()
	readers, err := svc.Readers(c.Context)
	if err != nil {
		return err
	}
	type row struct {
		Reader string `json:"reader"`
		State  string `json:"state"`
		ATR    string `json:"atr,omitempty"`
		Kind   string `json:"kind,omitempty"`
	}
	rows := make([]row, len(readers))
	for i, r := range readers {
		rows[i] = row{r.Name, r.State.String(), r.ATR.String(), kindOf(c.Context, svc, r)}
	}
	return p.print(c, rows, func(w io.Writer) {
		if len(rows) == 0 {
			fmt.Fprintln(w, "No reader is connected.")
		}
		for _, r := range rows {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-40s  %s  %s  %s", r.Reader, r.State, r.ATR, r.Kind), " "))
		}
	})
}

func openCard(c *cli.Context) (station.Card, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	return station.OpenCard(c.Context, cardSource(c))
}

// cardSource is where the flags say that the card is.
func cardSource(c *cli.Context) station.Source {
	return station.Source{Reader: c.String("reader"), Sim: c.String("sim")}
}

func (p *program) cardInfo(c *cli.Context) error {
	card, err := openCard(c)
	if err != nil {
		return err
	}
	defer card.Close()
	info, err := station.Describe(c.Context, card)
	if err != nil {
		return err
	}
	return p.print(c, info, func(w io.Writer) { printInfo(w, info) })
}

func printInfo(w io.Writer, i station.Info) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-14s %s\n", name, value)
		}
	}
	kind := ""
	if i.Simulated {
		kind = "  (software card)"
	}
	line("CUID", i.CUID+kind)
	line("MSN", i.MSN)
	line("ATR", i.ATR)
	line("Card manager", i.Manager)
	for _, s := range i.Protocols {
		line("Protocol", s)
	}
	for _, k := range i.Keys {
		line("Card keys", "version "+k)
	}
	for _, s := range i.Problems {
		line("Unreadable", s)
	}
	if i.PIV != nil {
		printPIV(line, i.PIV)
	}
	a := i.Applet
	if a == nil {
		if i.PIV == nil {
			line("Applet", "none")
		}
		return
	}
	line("Applet", fmt.Sprintf("%s %s, %s, %d of %d bytes free", a.Kind, a.Version, a.State, a.MemoryFree, a.MemoryTotal))
	line("Issuer", a.Issuer)
	line("Label", a.Label)
	line("PIN", a.PIN)
	certificate := func(kind string, c station.Certificate) {
		line(fmt.Sprintf("%s %d", kind, c.Number), fmt.Sprintf("%s: %s, %s, serial %s, until %s", c.Label, c.Subject, c.Key, c.Serial, c.NotAfter.Format(time.DateOnly)))
	}
	for _, c := range a.Certificates {
		certificate("Certificate", c)
	}
	for _, c := range a.Former {
		certificate("Former", c)
	}
}
