package piv

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps/profile"
)

// Old keys of slot 9D read what was encrypted to them, so a new one does not take
// their place where the card can move keys (firmware 5.7): they go into retired slots
// 82 to 95, with their certificates and the key history that hosts look for them by.
//
// The certificate is copied and counted before the key moves. Whoever is cut before
// finds key and certificate still in 9D, and goes on with the slot that has the copy;
// whoever is cut behind finds a 9D whose key is not that of its certificate.

// retire moves the key that k is to replace out of its way.
func (a *applet) retire(ctx context.Context, k profile.Key) error {
	if k.Retire == 0 || slotOf(k) != piv.KeyManagement {
		return nil
	}
	d := a.link.Doer()
	v, err := piv.ReadVersion(ctx, d)
	if err != nil || !a.link.Card().Unmanaged || !moves(v) {
		return refusal(err) // keys cannot be moved on it
	}
	m, err := piv.ReadMetadata(ctx, d, piv.KeyManagement)
	if err != nil || m.Public == nil {
		return refusal(err) // there is none
	}
	cert, err := piv.ReadCertificate(ctx, d, piv.KeyManagement)
	if err != nil {
		if e := refusal(err); e != nil && lost(e) {
			return err
		}
		return nil // nothing was ever encrypted to it
	}
	if !certifies(cert, m.Public) {
		return nil // made by an enrollment that was cut: nobody has its certificate
	}
	to, n, err := retiredSlot(ctx, d, cert.Raw, k.Retire)
	if err != nil {
		return err
	}
	if err := piv.WriteCertificate(ctx, d, to, cert.Raw); err != nil {
		return err
	}
	if err := piv.PutData(ctx, d, piv.KeyHistoryObject, piv.KeyHistory{OnCard: n}.Encode()); err != nil {
		return err
	}
	return piv.MoveKey(ctx, d, piv.KeyManagement, to)
}

// moves reports whether keys can be moved on a card.
func moves(firmware piv.Version) bool { return firmware.AtLeast(5, 7, 0) }

// certifies reports whether a certificate is of a key.
func certifies(cert *x509.Certificate, key crypto.PublicKey) bool {
	pub, err := x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo) // of X25519 cert.PublicKey is nil
	k, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
	return err == nil && ok && k.Equal(key)
}

// crowded foresees that a key could not be made, because the one in its place has nowhere
// to go. There is room as long as fewer are counted than the profile has the card keep.
func (r *reader) crowded(ctx context.Context) {
	v, err := piv.ParseVersion(r.c.Version)
	if err != nil || !moves(v) {
		return
	}
	for _, c := range r.c.Certificates {
		if c.Key.Retire == 0 || r.former < c.Key.Retire || len(c.DER) == 0 {
			continue
		}
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil || !certifies(cert, c.Public) {
			continue
		}
		_, _, err = retiredSlot(ctx, r.d, c.DER, c.Key.Retire)
		r.told(err)
		r.c.Crowded = err
	}
}

// retiredSlot finds the place for a former key, and how many there then are: the slot
// that has its certificate already, or the first free one of the limit.
func retiredSlot(ctx context.Context, d apdu.Doer, der []byte, limit int) (to piv.Slot, n int, err error) {
	have := 0
	b, err := piv.GetData(ctx, d, piv.KeyHistoryObject)
	if err == nil {
		if h, perr := piv.ParseKeyHistory(b); perr == nil {
			have = h.OnCard
		}
	}
	if err := refusal(err); err != nil {
		return 0, 0, err
	}
	for i := 1; i <= min(limit, piv.MaxRetired); i++ {
		slot := piv.Retired(i)
		cert, err := piv.ReadCertificate(ctx, d, slot)
		switch e := refusal(err); {
		case err == nil && !bytes.Equal(cert.Raw, der), e != nil && !lost(e):
			continue // somebody's former key, or something that is no certificate
		case e != nil:
			return 0, 0, e
		case err == nil:
			return slot, max(have, i), nil
		}
		_, err = piv.ReadMetadata(ctx, d, slot)
		switch e := refusal(err); {
		case err == nil, e != nil && !lost(e):
			continue // somebody's former key without a certificate
		case e != nil:
			return 0, 0, e
		}
		return slot, max(have, i), nil
	}
	return 0, 0, fmt.Errorf("the card keeps %d former keys already, which is all that the profile allows ([[key]] retire); format it to begin anew", limit)
}
