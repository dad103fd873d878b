package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/cli/station"
	"inkan/tps"
	"inkan/tps/wire"
)

// What --dry-run prints: what would be done, and exit status 0; or why it would be refused,
// and exit status 1.

// printDryRun prints what a dry run found; failed is how it ended.
func (p *program) printDryRun(c *cli.Context, res wire.Result, failed error) error {
	out := cardResult{Operation: res.Operation.String(), Result: "would be done", Card: wire.CardUnchanged.String(),
		Seconds: res.Elapsed.Seconds(), APDUs: res.APDUs, Trips: res.Trips}
	if len(res.Report) > 0 {
		out.Plan = new(tps.Preview)
		if err := json.Unmarshal(res.Report, out.Plan); err != nil {
			return errors.Join(failed, fmt.Errorf("reading what the server says of the dry run: %w; %v", err, wire.CardUnchanged))
		}
	}
	if failed == nil {
		return p.print(c, out, func(w io.Writer) { printPreview(w, *out.Plan) })
	}
	if r := out.refusal(); r != nil {
		next := wire.Explain(int(r.Status)).Do
		failed = fmt.Errorf("%v would be refused (status %d): %s; %v; %s", res.Operation, r.Status, printable(r.Text), wire.CardUnchanged, next)
		out.Result, out.Status, out.Error, out.Next = "would be refused", int(r.Status), r.Text, next
	} else {
		out.fail(failed)
	}
	if isSet(c, "json") {
		return reported{errors.Join(failed, p.print(c, out, nil))}
	}
	if out.Plan != nil && out.Plan.Open != nil { // which would be settled all the same
		return errors.Join(failed, p.print(c, out, func(w io.Writer) { printPreview(w, *out.Plan) }))
	}
	return failed
}

func (r cardResult) refusal() *tps.PreviewRefusal {
	if r.Plan == nil {
		return nil
	}
	return r.Plan.Refusal
}

// printPreview prints for people.
func printPreview(w io.Writer, v tps.Preview) {
	field(w, "Operation", string(v.Operation)+", which is not done now")
	field(w, "Card", v.Card)
	field(w, "Profile", fmt.Sprintf("%s, revision %d", v.Profile, v.Revision))
	if o := v.Open; o != nil {
		field(w, "Unfinished", fmt.Sprintf("%s of %s, begun by %s: %s", o.Operation, o.Started.Local().Format(time.DateTime), o.User, o.Fate))
	}
	if v.Before != v.After {
		field(w, "Record", recordText(v.Before)+" to "+recordText(v.After))
	}
	field(w, "Asked for", strings.Join(v.Asks, ", "))
	for _, text := range v.Lost {
		field(w, "Lost", text)
	}
	for _, text := range v.Replaced {
		field(w, "Replaced", text)
	}
	for _, cert := range v.Certificates {
		field(w, "Certificate", fmt.Sprintf("%s %s, good until %s: %s to %s", cert.Key, cert.Serial, cert.Until.Format(time.DateOnly), cert.Before, cert.After))
	}
	if v.Open != nil && len(v.Open.Steps) > 0 {
		fmt.Fprintf(w, "\nFirst the unfinished %s; what is asked for is planned behind it:\n", v.Open.Operation)
		printSteps(w, v.Open.Steps)
	}
	if len(v.Steps) > 0 {
		fmt.Fprintln(w)
		printSteps(w, v.Steps)
	}
	fmt.Fprintf(w, "\nNothing was done: %v.\n", wire.CardUnchanged)
}

func recordText(r tps.PreviewRecord) string {
	if r == (tps.PreviewRecord{}) {
		return "none"
	}
	if r.User == "" {
		return string(r.State) + " of nobody"
	}
	return string(r.State) + " of " + string(r.User)
}

// printSteps prints the steps of a plan; a star marks what cannot be taken back.
func printSteps(w io.Writer, steps []tps.PreviewStep) {
	table(w, "STEP\t\tWHAT", len(steps), func(i int) string {
		s, mark := steps[i], ""
		if s.Irreversible {
			mark = "*"
		}
		what := station.Task(s.Task)
		if s.Detail != "" {
			what += " (" + s.Detail + ")"
		}
		return strings.Join([]string{string(s.Name), mark, what}, "\t")
	})
	if slices.ContainsFunc(steps, func(s tps.PreviewStep) bool { return s.Irreversible }) {
		fmt.Fprintln(w, "* cannot be taken back")
	}
}
