package cli

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/cli/station"
)

func (p *program) testCard(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	var roots *x509.CertPool
	if f := c.String("trust"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(b) {
			return fmt.Errorf("%s holds no PEM certificate", f)
		}
	}
	answer, err := p.secretFrom(c.Context, c.String("pin-file"), "PIN")
	if err != nil {
		return err
	}
	pin, err := secret.NewPIN(answer.Bytes())
	if err != nil {
		return err
	}
	defer pin.Wipe()
	used, err := station.Prove(c.Context, cardSource(c), pin, roots)
	if err != nil {
		return err
	}
	return p.print(c, used, func(w io.Writer) { printUsed(w, used) })
}

func printUsed(w io.Writer, used []station.Used) {
	table(w, "PROGRAM\tSLOT\tCERTIFICATE\tKEY\tRESULT", len(used), func(i int) string {
		u := used[i]
		result := u.Did
		if u.Trusted {
			result += ", certificate is the authority's"
		}
		return strings.Join([]string{u.By, dash(u.Slot), u.Label, u.Key, result}, "\t")
	})
}

// proveEnrolled lets go of the card and has it prove itself, where the PIN is known:
// an enrollment that is resumed may not ask for it again.
func proveEnrolled(c *cli.Context, card station.Card, w *station.Witness) ([]station.Used, error) {
	if w.PIN.IsZero() {
		return nil, nil
	}
	cuid, err := station.CUID(c.Context, card)
	if err := errors.Join(err, card.Close()); err != nil {
		return nil, err
	}
	return station.ProveEnrolled(c.Context, cardSource(c), cuid, w.PIN)
}
