package tps

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Which certificates of a card get successors: the card has to be what the records say,
// whole, and at least one has to be good and in its time. What a renewal that was cut
// had begun goes on whatever the time is then.

// renewed is a key on the card with its certificate; due says that this gets a successor.
type renewed struct {
	key profile.Key
	old token.Certificate
	due bool
}

// renewals are the keys of the profile that the card has, one certificate for each: the
// one that is recorded and ends last (DEF-61).
func (f Facts) renewals() (all []renewed, err error) {
	var why []string
	for _, k := range f.Profile.Key {
		x, there, reason, err := f.renewalOf(k)
		if err != nil {
			return nil, within(StatusRenewal, "", fmt.Errorf("%w; nothing was changed: enroll the card again", err))
		}
		if there {
			all = append(all, x)
		}
		if reason != "" {
			why = append(why, reason)
		}
	}
	if !slices.ContainsFunc(all, func(x renewed) bool { return x.due }) {
		return nil, refuse(StatusRenewal, "nothing on the card can be renewed now: %s", strings.Join(why, "; "))
	}
	return all, nil
}

// renewalOf is what a renewal does with a key; reason says why it does nothing. It fails
// where the card is not what the records say.
func (f Facts) renewalOf(k profile.Key) (x renewed, there bool, reason string, err error) {
	if x, there, begun := f.resumed(k); begun {
		if there {
			reason, err = f.forbidden(k, x.old), f.hasKeyOf(k, x.old)
			x.due = x.due && reason == ""
		}
		return x, there, reason, err
	}
	old, there, err := f.carried(k)
	if err != nil || !there {
		return x, false, "the card has no " + k.Type + " certificate", err
	}
	reason = f.whyNot(k, old)
	return renewed{k, old, reason == ""}, true, reason, nil
}

// resumed is what the journal says of a key: its certificate was asked for already, or
// the card's content is being written.
func (f Facts) resumed(k profile.Key) (x renewed, there, begun bool) {
	h := historyOf(f.Open)
	id, due := "", false
	if e, ok := h.last(StepIssue.of(k.Type)); ok {
		id, due = e.Data["replaces"], true
	} else if e, ok := h.last(StepWrite); ok {
		id = e.Data[staysOn+k.Type]
	} else {
		return x, false, false
	}
	i := slices.IndexFunc(f.Certs, func(c token.Certificate) bool { return c.ID == id })
	if i < 0 {
		return x, false, true
	}
	return renewed{k, f.Certs[i], due}, true, true
}

// carried is the certificate of a key on the card: the card shows it or another one of
// the same key, and the key. there is false where neither card nor records have one.
func (f Facts) carried(k profile.Key) (c token.Certificate, there bool, err error) {
	of := func(c token.Certificate) bool { return c.KeyType == k.Type && c.Number == k.Cert }
	i := slices.IndexFunc(f.Contents.Certificates, func(c CardCertificate) bool { return c.Key.Type == k.Type && len(c.DER) > 0 })
	if i < 0 {
		if slices.ContainsFunc(f.Certs, func(c token.Certificate) bool { return of(c) && c.State == token.CertActive }) {
			return c, false, fmt.Errorf("the card has lost its %s certificate", k.Type)
		}
		return c, false, nil
	}
	at := slices.IndexFunc(f.Certs, func(c token.Certificate) bool {
		return of(c) && string(c.DER) == string(f.Contents.Certificates[i].DER)
	})
	if at < 0 {
		return c, false, fmt.Errorf("the card's %s certificate is not known here", k.Type)
	}
	shown := f.Certs[at]
	if shown.State == token.CertActive {
		for _, c := range f.Certs {
			if of(c) && c.State == token.CertActive && !c.NotAfter.Before(shown.NotAfter) && SameKey(c, shown) {
				shown = c
			}
		}
	}
	return shown, true, f.hasKeyOf(k, shown)
}

// hasKeyOf fails unless the card has the key of a certificate, as far as it tells.
func (f Facts) hasKeyOf(k profile.Key, c token.Certificate) error {
	if !f.hasSlot(k) {
		return fmt.Errorf("the card shows no %s key of %s", k.Type, k.Alg)
	}
	i := slices.IndexFunc(f.Contents.Certificates, func(c CardCertificate) bool { return c.Key.Type == k.Type && c.Public != nil })
	if i < 0 {
		return nil // the slot is all that it tells
	}
	pub, err := publicOf(c)
	if err != nil {
		return err
	}
	if on, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); !ok || !on.Equal(f.Contents.Certificates[i].Public) {
		return fmt.Errorf("the card's %s key is not the one of its certificate", k.Type)
	}
	return nil
}

// whyNot says why the certificate of a key gets no successor now, empty if it does.
func (f Facts) whyNot(k profile.Key, c token.Certificate) string {
	its := "the " + k.Type + " certificate "
	from, until := f.Profile.Renewal.Window(c.NotAfter)
	if reason := f.forbidden(k, c); reason != "" {
		return reason
	}
	switch {
	case !f.Profile.Renews(k.Type):
		return its + "is not one that profile " + string(f.Profile.Name) + " renews"
	case c.UserID != f.Holder.ID:
		return its + "is somebody else's"
	case c.State != token.CertActive && c.State != token.CertExpired:
		return its + "is " + string(c.State)
	case c.Pending != "":
		return its + "is about to be revoked"
	case !from.IsZero() && f.Now.Before(from):
		return its + "can be renewed from " + from.UTC().Format(time.DateOnly) + " on"
	case !until.IsZero() && f.Now.After(until):
		return its + "could be renewed until " + until.UTC().Format(time.DateOnly)
	}
	return ""
}

// forbidden says why the key of a certificate gets no other one, although a renewal may
// have begun: an agent has said something of it meanwhile. Empty if nothing speaks against.
func (f Facts) forbidden(k profile.Key, c token.Certificate) string {
	its := "the " + k.Type + " certificate "
	switch {
	case slices.ContainsFunc(f.Certs, func(o token.Certificate) bool {
		return o.Reason == int(ca.ReasonKeyCompromise) && (o.State == token.CertRevoked || o.Pending != "") && SameKey(o, c)
	}):
		return its + "has a key that is compromised"
	case held(c):
		return its + "is on hold"
	}
	return ""
}

// publicOf is the key of a certificate. Of X25519 x.PublicKey is nil.
func publicOf(c token.Certificate) (crypto.PublicKey, error) {
	x, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("reading the %s certificate: %w", c.KeyType, err)
	}
	pub, err := x509.ParsePKIXPublicKey(x.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the %s certificate: %w", c.KeyType, err)
	}
	return pub, nil
}

// SameKey reports two certificates of one key.
func SameKey(a, b token.Certificate) bool {
	x, err1 := x509.ParseCertificate(a.DER)
	y, err2 := x509.ParseCertificate(b.DER)
	return err1 == nil && err2 == nil && string(x.RawSubjectPublicKeyInfo) == string(y.RawSubjectPublicKeyInfo)
}
