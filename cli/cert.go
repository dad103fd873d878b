package cli

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/ca"
)

func (p *program) certCommand() *cli.Command {
	return &cli.Command{
		Name:  "cert",
		Usage: "certificates on cards",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list certificates", Description: "   inkan cert list --user ada\n   inkan cert list --token 40906145C76224192D2B --json",
				Flags: listFlags(
					&cli.StringFlag{Name: "user", Usage: "only certificates of the person `NAME`"},
					&cli.StringFlag{Name: "token", Usage: "only certificates of the card `CUID`"},
					&cli.StringFlag{Name: "state", Usage: "only certificates in `STATE`: uninitialized, active, revoked, revoked_on_hold, expired"},
					&cli.StringFlag{Name: "text", Usage: "only certificates with `TEXT` in id, CUID or user"},
				),
				Action: p.listCertificates,
			},
			{Name: "show", Usage: "show a certificate", ArgsUsage: "SERIAL", Description: "SERIAL is the serial number, or the id of the record.\n\n   inkan cert show 1A2B3C", Action: p.showCertificate},
			{
				Name: "revoke", Usage: "revoke a certificate for good", ArgsUsage: "SERIAL",
				Description: "It stands in the next revocation list. Reasons are those of RFC 5280: keyCompromise, affiliationChanged,\n" +
					"superseded, cessationOfOperation, unspecified.\n\n   inkan cert revoke 1A2B3C --reason keyCompromise",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`REASON` that the revocation list gives", Value: "unspecified"}},
				Action: func(c *cli.Context) error { return p.changeCertificate(c, "revoke") },
			},
			{
				Name: "hold", Usage: "revoke a certificate for the time being", ArgsUsage: "SERIAL", Description: "   inkan cert hold 1A2B3C",
				Action: func(c *cli.Context) error { return p.changeCertificate(c, "hold") },
			},
			{
				Name: "unhold", Usage: "make a certificate valid again that was held", ArgsUsage: "SERIAL", Description: "   inkan cert unhold 1A2B3C",
				Action: func(c *cli.Context) error { return p.changeCertificate(c, "unhold") },
			},
		},
	}
}

func (p *program) listCertificates(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	q, err := listQuery(c, map[string]string{"user": "userID", "token": "tokenID", "state": "status", "text": "filter"})
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		var l api.List[api.Certificate]
		if err := r.get(c.Context, "/certs", q, &l); err != nil {
			return err
		}
		return p.print(c, l, func(w io.Writer) {
			if len(l.Entries) == 0 {
				fmt.Fprintln(w, "No certificate.")
				return
			}
			printCertificates(w, l.Entries)
			printMore(w, len(l.Entries), l.Total, l.Next)
		})
	})
}

func printCertificates(w io.Writer, certs []api.Certificate) {
	table(w, "SERIAL\tSTATE\tKEY\tUSER\tTOKEN\tUNTIL", len(certs), func(i int) string {
		x := certs[i]
		return strings.Join([]string{serialOf(x), certificateState(x), x.KeyType, dash(x.UserID), x.TokenID, day(x.ValidNotAfter)}, "\t")
	})
}

// serialOf is the serial number as cards and this program's other commands show it.
func serialOf(x api.Certificate) string {
	return strings.ToUpper(strings.TrimPrefix(x.SerialNumber, "0x"))
}

func certificateState(x api.Certificate) string {
	if x.Pending != "" {
		return x.Status + ", revocation pending"
	}
	return x.Status
}

// recordID is the form of a record's id (UUID); a serial number has no hyphens.
var recordID = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// findCertificate finds a record by its id, or by a serial number that only one
// certificate has.
func findCertificate(c *cli.Context, r rest, name string) (api.Certificate, error) {
	var x api.Certificate
	if recordID.MatchString(name) {
		return x, r.get(c.Context, "/certs/"+strings.ToLower(name), nil, &x)
	}
	var l api.List[api.Certificate]
	if err := r.get(c.Context, "/certs", url.Values{"serial": {name}}, &l); err != nil {
		return x, err
	}
	switch len(l.Entries) {
	case 0:
		return x, fmt.Errorf("there is no certificate with the serial number %s", name)
	case 1:
		return l.Entries[0], nil
	}
	var ids []string
	for _, e := range l.Entries {
		ids = append(ids, e.ID+" ("+e.KeyType+" of "+e.TokenID+")")
	}
	return x, fmt.Errorf("several records have the serial number %s: name one by its id: %s", name, strings.Join(ids, ", "))
}

// certificateArgument reads SERIAL.
func certificateArgument(c *cli.Context) (string, error) {
	s, err := oneArgument(c, "SERIAL")
	if err != nil || recordID.MatchString(s) {
		return s, err
	}
	serial, err := ca.ParseSerial(strings.TrimPrefix(strings.ToLower(s), "0x"))
	if err != nil {
		return "", usagef("%q is neither a serial number in hexadecimal nor the id of a record", s)
	}
	return string(serial), nil
}

func (p *program) showCertificate(c *cli.Context) error {
	name, err := certificateArgument(c)
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		x, err := findCertificate(c, r, name)
		if err != nil {
			return err
		}
		return p.print(c, x, func(w io.Writer) { printCertificate(w, x) })
	})
}

func printCertificate(w io.Writer, x api.Certificate) {
	field(w, "Serial", serialOf(x))
	field(w, "State", certificateState(x))
	field(w, "Reason", x.Reason)
	field(w, "Subject", x.Subject)
	field(w, "Key", x.KeyType)
	field(w, "Owner", x.UserID)
	field(w, "Token", x.TokenID)
	if x.Origin != x.TokenID {
		field(w, "Issued for", x.Origin)
	}
	field(w, "Profile", x.Type)
	field(w, "Authority", x.Authority)
	field(w, "Valid", moment(x.ValidNotBefore)+" to "+moment(x.ValidNotAfter))
	if a := x.Attestation; a != nil {
		field(w, "Attested", describeAttestation(*a))
		if a.Attester != "" {
			field(w, "Attested by", a.Attester+", issued by "+a.Maker)
		}
	}
	field(w, "Changed", moment(x.ModifyTime))
	field(w, "Id", x.ID)
}

// describeAttestation is one line; --json has the evidence.
func describeAttestation(a api.Attestation) string {
	if a.Slot == "" {
		return "by evidence that this program cannot read"
	}
	text := fmt.Sprintf("made in slot %s, firmware %s, PIN %s, touch %s", a.Slot, a.Firmware, a.PINPolicy, a.TouchPolicy)
	if a.SerialNumber != 0 {
		text += fmt.Sprintf(", card %d", a.SerialNumber)
	}
	if a.FormFactor != "" {
		text += ", " + a.FormFactor
	}
	return text
}

// changed are the last words about a certificate.
var changed = map[string]string{"revoke": "is revoked for good", "hold": "is on hold", "unhold": "is valid again"}

func (p *program) changeCertificate(c *cli.Context, action string) error {
	name, err := certificateArgument(c)
	if err != nil {
		return err
	}
	in := api.CertificateAction{Action: action}
	if action == "revoke" {
		reason, err := ca.ParseReason(c.String("reason"))
		if err != nil {
			return usageError{err}
		}
		if reason == ca.ReasonCertificateHold || reason == ca.ReasonRemoveFromCRL {
			return usagef("use inkan cert hold and inkan cert unhold for %s", reason)
		}
		in.Reason = reason.String()
	}
	return p.withNode(c, func(r rest) error {
		x, err := findCertificate(c, r, name)
		if err != nil {
			return err
		}
		if err := r.post(c.Context, "/certs/"+x.ID+"/state", in, &x); err != nil {
			return err
		}
		return p.print(c, x, func(w io.Writer) { fmt.Fprintf(w, "Certificate %s %s.\n", serialOf(x), changed[action]) })
	})
}
