package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"inkan/cli/station"
	"inkan/pcsc"
)

// kindOf names the card in a reader where nobody else is at work with it.
func kindOf(ctx context.Context, svc *pcsc.Service, r pcsc.Reader) string {
	if r.State != pcsc.Present {
		return ""
	}
	card, err := svc.Connect(ctx, r.Name)
	if err != nil {
		return ""
	}
	defer card.Close()
	return station.Kind(ctx, card)
}

func printPIV(line func(name, value string), v *station.PIV) {
	applet := strings.TrimSpace("PIV " + v.Version)
	if v.Label != "" {
		applet += " (" + v.Label + ")"
	}
	line("Applet", applet)
	if v.Serial != 0 {
		line("Serial", strconv.FormatUint(uint64(v.Serial), 10))
	}
	line("GUID", v.GUID)
	line("Expires", v.Expiry)
	line("PIN", v.PIN)
	line("PUK", v.PUK)
	line("Management", v.Management)
	line("Attestation", v.Attestation)
	for _, s := range v.Slots {
		line("Slot "+s.Slot, describeSlot(s))
	}
}

// describeSlot is one line: purpose, key with its policies, certificate.
func describeSlot(s station.PIVSlot) string {
	text := s.Purpose + ": " + s.Key
	if s.Origin != "" {
		text += " " + s.Origin
	}
	if s.Attested {
		text += ", attested"
	}
	if s.PINPolicy != "" {
		text += ", PIN " + s.PINPolicy + ", touch " + s.TouchPolicy
	}
	switch {
	case s.Problem != "":
		text += "; unreadable: " + s.Problem
	case s.NotAfter != nil:
		text += "; " + s.Subject + ", until " + s.NotAfter.Format(time.DateOnly)
	default:
		text += "; no certificate"
	}
	return text
}
