package kiosk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/cli/station"
	"inkan/tps/wire"
)

// offer is something that can be done with a card.
type offer struct {
	op     wire.Operation
	resume bool
	title  string
	// ask is the question before it, with what will be lost; "" = nothing is.
	ask  string
	lost []string
}

// portrait is a card in words, from what it shows by itself.
type portrait struct {
	title string
	lines []string
	// wrong says why nothing can be done with the card, and what to do; "" = it can.
	wrong  string
	offers []offer
}

// condition is what a card is.
type condition int

const (
	foreign    condition = iota // shows no number: not a card that can be issued
	blank                       // no applet
	empty                       // formatted, nobody's
	unfinished                  // something was begun on it
	issued                      // carries certificates
)

// sight is what could be seen of a card.
type sight struct {
	station.Info
	damaged bool           // it answers, but what it carries cannot be read
	cut     wire.Operation // what was begun at this desk and not finished, 0 for nothing
}

func (s sight) condition() condition {
	a := s.Contents()
	switch {
	case !s.Issuable():
		return foreign
	case s.cut != 0 || s.damaged:
		return unfinished
	case a == nil:
		return blank
	case len(a.Certificates) > 0:
		return issued
	case a.PIN != "none", s.LooseKeys() > 0:
		return unfinished
	}
	return empty
}

// portray says what a card is and what can be done with it, the likeliest first.
func portray(s sight, now time.Time) portrait {
	c, i, cut := s.condition(), s.Info, s.cut
	if c == foreign {
		return portrait{title: "Not a card for this desk", wrong: "It shows no serial number, so it cannot be issued. Take it out and use another one."}
	}
	p := portrait{title: titleOf(c, i), lines: linesOf(i)}
	enroll := offer{op: wire.Enroll, title: "Enroll: give the card to a person"}
	format := offer{op: wire.Format, title: "Format: empty the card", ask: "Format erases the card.", lost: erased(i)}
	reset := offer{op: wire.ResetPIN, title: "Set a new PIN"}
	rekey := offer{op: wire.KeyChangeover, title: "Change the card's own keys"}
	switch c {
	case blank:
		p.offers = []offer{enroll, format}
	case empty:
		p.offers = []offer{enroll, format, rekey}
	case unfinished:
		p.offers = []offer{finish(cut), enroll, format}
		if a := i.Contents(); a != nil && len(a.Certificates) > 0 {
			p.offers[1] = replacing(enroll, i)
		}
	case issued:
		p.offers = []offer{reset, replacing(enroll, i), rekey, format}
		if station.FirstEnd(i.Contents().Certificates).Before(now) {
			p.offers = []offer{replacing(enroll, i), reset, rekey, format}
		}
		if a := i.Contents(); a.PIN != "blocked" && renewable(a.Certificates, now) {
			p.offers = slices.Insert(p.offers, 0, offer{op: wire.Renew, title: "Renew: new certificates, the same keys"})
		}
	}
	return p
}

// finish is the offer to finish what was cut, on this desk or elsewhere.
func finish(cut wire.Operation) offer {
	if cut == 0 {
		return offer{op: wire.Enroll, resume: true, title: "Finish what was begun on it"}
	}
	return offer{op: cut, resume: true, title: "Finish: " + doing(cut)}
}

// replacing is an enrollment of a card that has been enrolled.
func replacing(enroll offer, i station.Info) offer {
	enroll.title = "Enroll again: new keys and certificates"
	enroll.ask, enroll.lost = "A new enrollment replaces what is on the card.", losses(i)
	return enroll
}

func titleOf(c condition, i station.Info) string {
	switch c {
	case blank:
		return "A new card"
	case empty:
		return "An empty card, nobody's yet"
	case unfinished:
		return "A card that was not finished"
	}
	if h := holder(i); h != "" {
		return "The card of " + h
	}
	return "A card in use, without a name"
}

// linesOf are the facts below the title.
func linesOf(i station.Info) []string {
	number := "No. " + grouped(i.CUID)
	if i.Simulated {
		number += " (software card)"
	}
	lines := []string{number}
	a := i.Contents()
	if a == nil {
		return lines
	}
	switch a.PIN {
	case "none":
	case "blocked":
		lines = append(lines, "Its PIN is blocked.")
	default:
		lines = append(lines, sentence("PIN "+a.PIN))
	}
	if n := len(a.Certificates); n > 0 {
		lines = append(lines, sentence(certificates(a.Certificates)))
	}
	return lines
}

// losses are what goes when a card is erased or enrolled again.
func losses(i station.Info) []string {
	a := i.Contents()
	if a == nil {
		return []string{"Whatever else it is used for."}
	}
	var out []string
	if len(a.Certificates) > 0 {
		whose := ""
		if h := holder(i); h != "" {
			whose = " of " + h
		}
		out = append(out, sentence(certificates(a.Certificates)+whose), "Their keys: what is encrypted for them cannot be read with this card again.")
	}
	if n := i.LooseKeys(); n > 0 {
		out = append(out, fmt.Sprintf("%d of its keys that have no certificate.", n))
	}
	if a.PIN != "none" {
		out = append(out, "Its PIN.")
	}
	if len(out) == 0 {
		out = append(out, "Nothing of a person is on it.")
	}
	return out
}

// erased are what goes when a card is formatted: former keys too, which an enrollment
// leaves.
func erased(i station.Info) []string {
	n := i.RetiredKeys()
	if n == 0 {
		return losses(i)
	}
	line := fmt.Sprintf("%d former keys, for what was encrypted to them.", n)
	if n == 1 {
		line = "1 former key, for what was encrypted to it."
	}
	return append(losses(i), line)
}

// certificates are counted, with the day on which the first of them ends.
func certificates(cs []station.Certificate) string {
	text := fmt.Sprintf("%d certificates", len(cs))
	if len(cs) == 1 {
		text = "1 certificate"
	}
	if end := station.FirstEnd(cs); !end.IsZero() {
		text += ", until " + end.Format(time.DateOnly)
	}
	return text
}

// renewDays is how near the end of a certificate has to be for a renewal to be offered:
// as near as the shipped profiles want it. The server has the last word.
const renewDays = 30

// renewable reports certificates the first of which is about to end, or has just ended.
func renewable(cs []station.Certificate, now time.Time) bool {
	end := station.FirstEnd(cs)
	return now.After(end.AddDate(0, 0, -renewDays)) && now.Before(end.AddDate(0, 0, renewDays))
}

func holder(i station.Info) string {
	for _, c := range i.Contents().Certificates {
		if h := clean(c.Holder()); h != "" {
			return h
		}
	}
	return ""
}

// grouped makes a number readable.
func grouped(s string) string {
	var parts []string
	for len(s) > 4 {
		parts, s = append(parts, s[:4]), s[4:]
	}
	return strings.Join(append(parts, s), " ")
}

// doing names an operation for the person at the desk.
func doing(op wire.Operation) string {
	switch op {
	case wire.Format:
		return "format the card"
	case wire.Enroll:
		return "enroll the card"
	case wire.Renew:
		return "renew the certificates"
	case wire.ResetPIN:
		return "set a new PIN"
	case wire.KeyChangeover:
		return "change the card's keys"
	}
	return op.String()
}
