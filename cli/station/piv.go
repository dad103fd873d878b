package station

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
)

// PIV is what a PIV applet shows. What a card does not tell is empty.
type PIV struct {
	Label       string    `json:"label,omitempty"`
	Version     string    `json:"version,omitempty"`
	Serial      uint32    `json:"serial,omitempty"`
	GUID        string    `json:"guid,omitempty"`
	Expiry      string    `json:"expiry,omitempty"` // of the card, YYYYMMDD
	PIN         string    `json:"pin"`
	PUK         string    `json:"puk,omitempty"`
	Management  string    `json:"management_key,omitempty"`
	Attestation string    `json:"attestation,omitempty"` // issuer of the card's attestation certificate
	Slots       []PIVSlot `json:"slots,omitempty"`

	factoryPIN, blocked bool // as far as the card tells
}

// PIVSlot is a slot with a key or a certificate.
type PIVSlot struct {
	Slot        string     `json:"slot"`
	Purpose     string     `json:"purpose"`
	Key         string     `json:"key,omitempty"`
	Origin      string     `json:"origin,omitempty"`
	PINPolicy   string     `json:"pin_policy,omitempty"`
	TouchPolicy string     `json:"touch_policy,omitempty"`
	Attested    bool       `json:"attested,omitempty"` // by the card's own attestation, whoever vouches for that
	Subject     string     `json:"subject,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	NotAfter    *time.Time `json:"not_after,omitempty"`
	Problem     string     `json:"problem,omitempty"` // why the certificate cannot be read

	Retired bool `json:"retired,omitempty"` // of a former key

	cert *x509.Certificate
}

// firstSimulated is the first serial number of software cards.
const firstSimulated = 0xF0000000

// pivReader reads one card. What a card refuses is left out; it ends where the
// card is gone or nobody waits any more.
type pivReader struct {
	d   apdu.Doer
	err error
}

// told reports whether err is none, and keeps it where the card is lost.
func (r *pivReader) told(err error) bool {
	if r.err == nil && (errors.Is(err, apdu.ErrCardRemoved) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		r.err = err
	}
	return r.err == nil && err == nil
}

// readPIV returns nil for a card without PIV.
func readPIV(ctx context.Context, d apdu.Doer) (*PIV, error) {
	app, err := piv.Select(ctx, d)
	if errors.Is(err, apdu.ErrCardRemoved) {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	r := &pivReader{d: d}
	p := &PIV{Label: app.Label}
	r.identity(ctx, p)
	r.secrets(ctx, p)
	r.slots(ctx, p)
	return p, r.err
}

func (r *pivReader) identity(ctx context.Context, p *PIV) {
	if v, err := piv.ReadVersion(ctx, r.d); r.told(err) {
		p.Version = v.String()
	}
	n, err := piv.ReadSerial(ctx, r.d)
	if refusal(err) {
		n, err = piv.ReadOTPSerial(ctx, r.d)
	}
	if r.told(err) {
		p.Serial = n
	}
	b, err := piv.GetData(ctx, r.d, piv.CHUIDObject)
	if !r.told(err) {
		return
	}
	if c, err := piv.ParseCHUID(b); err == nil {
		p.GUID, p.Expiry = hex.EncodeToString(c.GUID[:]), c.Expiry
	}
}

// secrets tells of PIN, PUK and management key, with metadata or without.
func (r *pivReader) secrets(ctx context.Context, p *PIV) {
	if s, err := piv.ReadPINStatus(ctx, r.d); r.told(err) {
		p.PIN, p.blocked = tries(s.Tries), s.Tries == 0
	}
	if m, err := piv.ReadMetadata(ctx, r.d, piv.PIN); r.told(err) {
		p.PIN, p.factoryPIN, p.blocked = secretOf(m), m.Default, m.Left == 0
	}
	if m, err := piv.ReadMetadata(ctx, r.d, piv.PUK); r.told(err) {
		p.PUK = secretOf(m)
	}
	if m, err := piv.ReadMetadata(ctx, r.d, piv.Management); r.told(err) {
		p.Management = m.Algorithm.String() + factory(m.Default)
		if m.Default {
			return // wherever the card says that it is
		}
	}
	b, err := piv.GetData(ctx, r.d, piv.AdminData)
	if !r.told(err) {
		return
	}
	if a, err := piv.ParseAdminData(b); err == nil {
		p.Management = strings.TrimPrefix(p.Management+guarded(a), ", ")
	}
}

// guarded says how the PIN guards the management key, as the card has it.
func guarded(a piv.AdminContent) string {
	switch {
	case a.Stored:
		return ", stored behind the PIN"
	case a.Salt != nil:
		return ", derived from the PIN"
	}
	return ""
}

func tries(n int) string {
	switch {
	case n < 0:
		return "verified"
	case n == 0:
		return "blocked"
	case n == 1:
		return "1 try left"
	}
	return fmt.Sprintf("%d tries left", n)
}

func secretOf(m piv.Metadata) string {
	return tries(m.Left) + fmt.Sprintf(" of %d", m.Tries) + factory(m.Default)
}

func factory(is bool) string {
	if is {
		return ", the factory's"
	}
	return ""
}

func (r *pivReader) slots(ctx context.Context, p *PIV) {
	attester, err := piv.ReadCertificate(ctx, r.d, piv.Attestation)
	if r.told(err) {
		p.Attestation = name(attester.RawIssuer)
	}
	for _, slot := range piv.Slots() {
		s := PIVSlot{Slot: slot.String(), Purpose: slot.Purpose(), Retired: slot.RetiredNumber() > 0}
		found := r.key(ctx, slot, &s, attester)
		cert, err := piv.ReadCertificate(ctx, r.d, slot)
		switch {
		case r.told(err):
			found = true
			s.cert = cert
			s.Subject, s.Issuer, s.NotAfter = name(cert.RawSubject), name(cert.RawIssuer), &cert.NotAfter
			if s.Key == "" {
				s.Key = keyName(cert.PublicKey)
			}
		case r.err != nil:
			return
		case !refusal(err):
			found, s.Problem = true, err.Error()
		}
		if found {
			p.Slots = append(p.Slots, s)
		}
	}
}

// refusal reports a card that has said no, rather than something unreadable.
func refusal(err error) bool {
	var sw apdu.StatusWord
	return errors.As(err, &sw)
}

func (r *pivReader) key(ctx context.Context, slot piv.Slot, s *PIVSlot, attester *x509.Certificate) bool {
	m, err := piv.ReadMetadata(ctx, r.d, slot)
	if !r.told(err) {
		return false
	}
	s.Key, s.PINPolicy, s.TouchPolicy = m.Algorithm.String(), m.Policy.PIN.String(), m.Policy.Touch.String()
	if m.Origin == piv.Generated || m.Origin == piv.Imported {
		s.Origin = m.Origin.String()
	}
	if attester == nil {
		return true
	}
	leaf, err := piv.Attest(ctx, r.d, slot)
	if r.told(err) && leaf.CheckSignatureFrom(attester) == nil {
		st, err := piv.ParseStatement(leaf)
		s.Attested = err == nil && st.Slot == slot && m.Public != nil && st.SameKey(m.Public)
	}
	return true
}

// cuid is the identifier of a card that has no CPLC (piv-applet.md §13).
func (p *PIV) cuid() (id apdu.CUID, simulated, ok bool) {
	if p.Serial != 0 {
		return piv.SerialCUID(p.Serial), p.Serial >= firstSimulated, true
	}
	guid, err := hex.DecodeString(p.GUID)
	if err != nil || len(guid) == 0 {
		return id, false, false
	}
	sum := sha256.Sum256(guid)
	id[0], id[1] = 0xFF, 0xFF
	copy(id[2:], sum[:8])
	return id, false, true
}

// Kind names what a card is, in a few words: "PIV 5.4.3, serial 4026531841", or
// nothing that is known here.
func Kind(ctx context.Context, card apdu.Card) string {
	d := apdu.NewConn(card)
	if _, err := piv.Select(ctx, d); err != nil {
		return ""
	}
	r := &pivReader{d: d}
	var p PIV
	r.identity(ctx, &p)
	kind := "PIV"
	if p.Version != "" {
		kind += " " + p.Version
	}
	if p.Serial != 0 {
		kind += fmt.Sprintf(", serial %d", p.Serial)
	}
	return kind
}
