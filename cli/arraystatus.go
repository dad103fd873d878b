package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/cli/server"
)

func encodeJSON(v any) ([]byte, error) { return json.Marshal(v) }

func (p *program) arrayStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return p.withArray(c, func(r rest) error {
		st, err := awaitArray(c.Context, r, c.Duration("wait"))
		if err != nil {
			return err
		}
		err = p.print(c, st, func(w io.Writer) { printArray(w, st) })
		if st.State != "converged" {
			return errors.Join(fmt.Errorf("the array is %s: %s", st.State, printable(st.Why)), err)
		}
		return err
	})
}

func printArray(w io.Writer, st server.ArrayStatus) {
	fmt.Fprintf(w, "Array %s (%s), epoch %d, %s\n", printable(st.Name), st.Array, st.Epoch, stateWord(st.State))
	if !st.Running {
		fmt.Fprint(w, "This node does not run: what the others say, it has asked once.\n")
	}
	table(w, "NODE\tROLES\tSTATE\tEPOCH\tHASH\tCA\tCERTIFICATE\tSIGNS WITH\tCONFIG\tCLOCK\tVERSION\tLAST CONTACT", len(st.Members), func(i int) string {
		m := st.Members[i]
		name := m.Name
		if m.Primary {
			name += " (primary)"
		}
		epoch, clock := "-", "-"
		if m.Error == "" {
			epoch, clock = strconv.FormatUint(m.Epoch, 10), m.Offset.Round(time.Millisecond).String()
		}
		contact := "never"
		if !m.Contact.IsZero() {
			contact = m.Contact.Local().Format(time.DateTime)
		}
		return strings.Join([]string{name, strings.Join(m.Roles, ","), m.State, epoch, orDash(m.Hash, 8), orDash(fingerprintBytes(m.CA), 23),
			m.NotAfter.Local().Format(time.DateTime), orDash(m.SigningKID, 8), orDash(m.Config, 16), clock, m.Version, contact}, "\t")
	})
	for _, m := range st.Members {
		for _, note := range []struct{ what, text string }{{"not reached", m.Error}, {"certificate not renewed", m.Renewal}, {"waits for somebody to confirm the CA", m.Waiting}} {
			if note.text != "" {
				fmt.Fprintf(w, "%s: %s: %s\n", printable(m.Name), note.what, printable(note.text))
			}
		}
	}
	if st.Waiting != nil {
		fmt.Fprintf(w, "%s was promoted by force: compare its CA and run inkan array promote --confirm\n", printable(st.Waiting.Primary))
	}
}

// stateWord writes the good state in capitals.
func stateWord(state string) string {
	if state == "converged" {
		return "CONVERGED"
	}
	return state
}

// orDash is the beginning of a text; a dash where there is none.
func orDash(s string, n int) string {
	if s == "" {
		return "-"
	}
	return s[:min(n, len(s))]
}
