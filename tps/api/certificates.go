package api

import (
	"strings"

	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/piv/attest"
	"inkan/tps/token"
)

// Certificate is the record of a certificate: Dogtag's TPSCertData
// (tps-rest-api.md §3.3) with validity, reason and authority besides.
type Certificate struct {
	ID             string `json:"id"`
	SerialNumber   string `json:"SerialNumber"` // 0x and lower-case hexadecimal
	Subject        string `json:"Subject"`
	UserID         string `json:"UserID,omitempty"`
	TokenID        string `json:"TokenID"`
	Origin         string `json:"Origin"`  // card it was issued for
	Type           string `json:"Type"`    // profile
	KeyType        string `json:"KeyType"` // signing, encryption, …
	Status         string `json:"Status"`  // uninitialized, active, revoked, revoked_on_hold, expired
	Reason         string `json:"Reason,omitempty"`
	Pending        string `json:"Pending,omitempty"` // what the authority is still to be told
	Authority      string `json:"Authority"`
	ValidNotBefore Millis `json:"ValidNotBefore"`
	ValidNotAfter  Millis `json:"ValidNotAfter"`
	CreateTime     Millis `json:"CreateTime"`
	ModifyTime     Millis `json:"ModifyTime"`
	// Attestation is what the card proved of the key before it was certified.
	Attestation *Attestation `json:"Attestation,omitempty"`
}

// Attestation is a verified attestation, with the evidence.
type Attestation struct {
	Slot         string `json:"Slot"`
	SerialNumber uint32 `json:"SerialNumber,omitempty"` // of the card
	Firmware     string `json:"Firmware"`
	FormFactor   string `json:"FormFactor,omitempty"`
	PINPolicy    string `json:"PINPolicy"`
	TouchPolicy  string `json:"TouchPolicy"`
	Attester     string `json:"Attester"`     // subject of the card's attestation certificate
	Maker        string `json:"Maker"`        // its issuer, the authority of the card's maker
	Certificates string `json:"Certificates"` // PEM: the statement, the card's attestation certificate
}

// describeAttestation reads what was stored. What is no evidence is shown as it is.
func describeAttestation(stored string) *Attestation {
	if stored == "" {
		return nil
	}
	out := &Attestation{Certificates: stored}
	e, err := attest.ParsePEM([]byte(stored))
	if err != nil {
		return out
	}
	if s, err := e.Statement(); err == nil {
		out.Slot, out.SerialNumber, out.Firmware = s.Slot.String(), s.Serial, s.Firmware.String()
		out.PINPolicy, out.TouchPolicy = s.Policy.PIN.String(), s.Policy.Touch.String()
		if s.FormFactor != 0 {
			out.FormFactor = s.FormFactor.String()
		}
	}
	if by, err := e.Signer(); err == nil {
		out.Attester, out.Maker = by.Subject.String(), by.Issuer.String()
	}
	return out
}

func describeCertificate(c token.Certificate) (Certificate, error) {
	out := Certificate{
		ID: c.ID, SerialNumber: "0x" + strings.ToLower(c.Serial), Subject: c.Subject, UserID: string(c.UserID),
		TokenID: c.CUID.String(), Origin: c.Origin.String(), Type: string(c.Profile), KeyType: c.KeyType, Status: string(c.State),
		Pending: c.Pending, Authority: c.CA, ValidNotBefore: millis(c.NotBefore), ValidNotAfter: millis(c.NotAfter),
		CreateTime: millis(c.Created), ModifyTime: millis(c.Modified), Attestation: describeAttestation(c.Evidence),
	}
	if c.State == token.CertRevoked || c.State == token.CertOnHold || c.Pending != "" {
		out.Reason = ca.Reason(c.Reason).String()
	}
	return out, nil
}

func (a *api) listCertificates(c *call) (reply, error) {
	p, err := c.page()
	if err != nil {
		return reply{}, err
	}
	f, err := c.filter()
	if err != nil {
		return reply{}, err
	}
	if s := c.param("serial"); s != "" {
		serial, err := ca.ParseSerial(strings.TrimPrefix(strings.ToLower(s), "0x"))
		if err != nil {
			return reply{}, badRequest("%q is not a serial number in hexadecimal", s)
		}
		f.Serial = string(serial)
	}
	s := source[token.Certificate]{
		read: func(after string, limit int) ([]token.Certificate, error) {
			f.After, f.Limit = after, limit
			return a.Certificates.Certificates(c.Context(), f)
		},
		id: func(r token.Certificate) string { return r.ID },
	}
	if state := c.param("status"); state != "" {
		s.keep = func(r token.Certificate) bool { return string(r.State) == strings.ToLower(state) }
	}
	return convert(p, s, describeCertificate)
}

func (a *api) showCertificate(c *call) (reply, error) {
	r, err := a.Certificates.Certificate(c.Context(), c.PathValue("id"))
	if err != nil {
		return reply{}, missing(err, "there is no certificate %s", c.PathValue("id"))
	}
	out, err := describeCertificate(r)
	return reply{body: out, revision: r.Revision}, err
}

// CertificateAction is the body of POST certs/{id}/state.
type CertificateAction struct {
	Action string `json:"action"`           // revoke, hold, unhold
	Reason string `json:"reason,omitempty"` // of revoke: a name of RFC 5280; empty = unspecified
}

var actions = map[string]tps.CertificateAction{"revoke": tps.ActionRevoke, "hold": tps.ActionHold, "unhold": tps.ActionUnhold}

func (a *api) changeCertificate(c *call) (reply, error) {
	var in CertificateAction
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	ch := tps.CertificateChange{ID: c.PathValue("id"), By: token.UserID(c.who.Name), Client: c.who.Address}
	var ok bool
	if ch.Action, ok = actions[in.Action]; !ok {
		return reply{}, badRequest("action %q: want revoke, hold or unhold", in.Action)
	}
	if in.Reason != "" {
		var err error
		if ch.Reason, err = ca.ParseReason(in.Reason); err != nil {
			return reply{}, badRequest("%v", err)
		}
		if ch.Action != tps.ActionRevoke {
			return reply{}, badRequest("%s takes no reason", in.Action)
		}
	}
	r, err := a.Revoker.ChangeCertificate(c.Context(), ch)
	if err != nil {
		return reply{}, missing(err, "there is no certificate %s", ch.ID)
	}
	out, err := describeCertificate(r)
	return reply{body: out, revision: r.Revision}, err
}
