package station

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/tps/ca"
)

// Info is what a card shows to anybody.
type Info struct {
	ATR       string   `json:"atr,omitempty"`
	CUID      string   `json:"cuid,omitempty"`
	MSN       string   `json:"msn,omitempty"`
	Simulated bool     `json:"simulated,omitempty"`
	Manager   string   `json:"card_manager,omitempty"`
	Protocols []string `json:"protocols,omitempty"`
	Keys      []string `json:"key_versions,omitempty"`
	Applet    *Applet  `json:"applet,omitempty"`
	PIV       *PIV     `json:"piv,omitempty"`
	Problems  []string `json:"problems,omitempty"`
}

// Applet is what a CoolKey applet shows.
type Applet struct {
	Kind         string        `json:"kind"`
	Version      string        `json:"version"`
	State        string        `json:"state"`
	Label        string        `json:"label,omitempty"`
	Issuer       string        `json:"issuer,omitempty"`
	MemoryTotal  uint32        `json:"memory_total"`
	MemoryFree   uint32        `json:"memory_free"`
	PIN          string        `json:"pin"`
	Certificates []Certificate `json:"certificates,omitempty"`
	Former       []Certificate `json:"former,omitempty"` // certificates that the keys had before
}

// Certificate is a certificate on a card.
type Certificate struct {
	Number   int       `json:"number"`
	Label    string    `json:"label"`
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Serial   string    `json:"serial"`
	Key      string    `json:"key"`
	NotAfter time.Time `json:"not_after"`

	cert  *x509.Certificate
	flags coolkey.Fixed
}

// FirstEnd is when the first of the certificates ends; zero without any.
func FirstEnd(cs []Certificate) time.Time {
	var first time.Time
	for _, c := range cs {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// Describe reads what a card shows. What cannot be read is a problem in the
// answer; only a card that does not answer at all is an error.
func Describe(ctx context.Context, card Card) (Info, error) {
	conn := apdu.NewConn(card)
	info := Info{ATR: card.ATR().String()}
	if err := info.manager(ctx, conn); err != nil {
		return info, err
	}
	a, err := readApplet(ctx, conn)
	if err != nil {
		return info, err
	}
	info.Applet = a
	if info.PIV, err = readPIV(ctx, conn); err != nil {
		return info, err
	}
	info.identify()
	return info, nil
}

// identify names a card with PIV and without a card manager, where it is no problem
// that there is none.
func (i *Info) identify() {
	if i.PIV == nil || i.Manager != "" || i.CUID != "" {
		return
	}
	i.Problems = nil
	if id, simulated, ok := i.PIV.cuid(); ok {
		i.CUID, i.Simulated = id.String(), simulated
	}
}

// Issuable reports whether the server's operations can work on the card: one that
// shows its number.
func (i Info) Issuable() bool { return i.CUID != "" }

// lost tells a card that refuses from one that does not answer.
func lost(err error) bool {
	var sw apdu.StatusWord
	return err != nil && !errors.As(err, &sw)
}

func (i *Info) problem(err error) error {
	if lost(err) {
		return err
	}
	if err != nil {
		i.Problems = append(i.Problems, err.Error())
	}
	return nil
}

func (i *Info) manager(ctx context.Context, d apdu.Doer) error {
	fci, err := gp.SelectDefault(ctx, d)
	if err != nil {
		return i.problem(fmt.Errorf("selecting the card manager: %w", err))
	}
	if fci.AID.Len() > 0 {
		i.Manager = fci.AID.String()
	}
	cplc, err := gp.ReadCPLC(ctx, d)
	if err == nil {
		i.CUID, i.MSN, i.Simulated = cplc.CUID().String(), cplc.MSN().String(), cplc.Simulated()
	}
	if err := i.problem(err); err != nil {
		return err
	}
	rec, err := gp.ReadRecognition(ctx, d)
	for _, s := range rec.SCPs {
		i.Protocols = append(i.Protocols, s.String())
	}
	if err := i.problem(err); err != nil {
		return err
	}
	keys, err := gp.ReadKeyInfo(ctx, d)
	for _, v := range gp.KeyVersions(keys) {
		for _, k := range keys {
			if k.KVN == v {
				i.Keys = append(i.Keys, fmt.Sprintf("%s: %s, %d bits", v, k.Type, 8*k.Length))
				break
			}
		}
	}
	return i.problem(err)
}

// readApplet returns nil for a card without a CoolKey applet.
func readApplet(ctx context.Context, d apdu.Doer) (*Applet, error) {
	if err := coolkey.Select(ctx, d); err != nil {
		if lost(err) {
			return nil, err
		}
		return nil, nil
	}
	v, err := coolkey.ReadVersion(ctx, d)
	if err != nil {
		return nil, err
	}
	s, err := coolkey.ReadStatus(ctx, d)
	if err != nil {
		return nil, err
	}
	info, err := coolkey.ReadInfo(ctx, d)
	if err != nil {
		return nil, err
	}
	a := &Applet{Kind: "CoolKey", Version: v.String(), State: info.LifeCycle.String(), MemoryTotal: s.HeapTotal, MemoryFree: s.HeapFree, PIN: "none"}
	if s.PINs > 0 {
		a.PIN = "set"
		switch n, err := coolkey.PINTries(ctx, d, 0); {
		case lost(err):
			return nil, err
		case err == nil && n == 0:
			a.PIN = "blocked"
		case err == nil:
			a.PIN = fmt.Sprintf("set, %d tries left", n)
		}
	}
	if a.Issuer, err = coolkey.ReadIssuerInfo(ctx, d); lost(err) {
		return nil, err
	}
	return a, a.readContents(ctx, d)
}

// readContents reads the combined object, if there is one.
func (a *Applet) readContents(ctx context.Context, d apdu.Doer) error {
	objects, err := coolkey.ListObjects(ctx, d)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.ID != coolkey.IDCombined {
			continue
		}
		b, err := coolkey.ReadObject(ctx, d, coolkey.Anonymous(), o.ID, 0, o.Size)
		if err != nil {
			return err
		}
		z, err := coolkey.Decode(b)
		if err != nil {
			return fmt.Errorf("the card's content is unreadable, a new enrollment repairs it: %w", err)
		}
		a.Label = z.Label
		for _, c := range z.Certificates() {
			a.Certificates = append(a.Certificates, certificateOf(c))
		}
		for _, f := range z.Formers() {
			a.Former = append(a.Former, certificateOf(coolkey.Certificate{Number: f.Number, Label: f.Label, DER: f.DER}))
		}
	}
	return nil
}

func certificateOf(c coolkey.Certificate) Certificate {
	out := Certificate{Number: c.Number, Label: c.Label, flags: c.Private}
	if cert, err := x509.ParseCertificate(c.DER); err == nil {
		out.cert = cert
		out.Subject, out.Issuer = name(cert.RawSubject), name(cert.RawIssuer)
		out.Serial, out.NotAfter, out.Key = fmt.Sprintf("%X", cert.SerialNumber), cert.NotAfter, keyName(cert.PublicKey)
	}
	return out
}

// name is a distinguished name as RFC 4514 writes it.
func name(der []byte) string {
	s, err := ca.FormatDN(der)
	if err != nil {
		return "unreadable"
	}
	return s
}

func keyName(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdh.PublicKey:
		return "X25519"
	}
	return "unknown"
}
