package piv

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
)

// maxObject is how much of an object every card takes, in bytes: a YubiKey's limit.
const maxObject = 3052

// object is one that is written, and then read back.
type object struct {
	tag     piv.Object
	content []byte
}

// Write implements tps.Applet: the certificates, and what describes the card. Objects
// that are read with a PIN alone are not read back.
func (a *applet) Write(ctx context.Context, c tps.Contents) error {
	d := a.link.Doer()
	objects, err := a.objects(c)
	if err != nil {
		return err
	}
	var writes, reads []apdu.Entry
	var compared []object
	for _, o := range objects {
		parts, err := apdu.Chain(piv.PutDataCommand(o.tag, o.content))
		if err != nil {
			return fmt.Errorf("writing object %v: %w", o.tag, err)
		}
		writes = append(writes, apdu.Entries(apdu.Plain, parts...)...)
		if a.profile.Compat.ReadBack && !o.tag.NeedsPIN() {
			reads = append(reads, apdu.Entry{Command: piv.GetDataCommand(o.tag), Mode: apdu.Plain})
			compared = append(compared, o)
		}
	}
	if a.discovery { // cards that make it themselves refuse it
		writes = append(writes, apdu.Entry{Command: piv.PutDataCommand(piv.Discovery, piv.DiscoveryContent()), Mode: apdu.Plain | apdu.Anyway})
	}
	answers, err := apdu.RunAll(ctx, d, append(writes, reads...)) // in one list: a round trip less
	if errors.Is(err, apdu.SWNoMemory) {
		return tps.Final(fmt.Errorf("the card is full: %w", err))
	}
	if err != nil {
		return forGood(fmt.Errorf("writing the card's objects and reading them back: %w", err))
	}
	for i, o := range compared {
		got, err := piv.ParseObject(o.tag, answers[len(writes)+i].Data)
		if err != nil || !bytes.Equal(got, o.content) {
			return fmt.Errorf("the card does not hold what was written to its object %v", o.tag)
		}
	}
	return nil
}

// objects are all that the card is to carry.
func (a *applet) objects(c tps.Contents) ([]object, error) {
	var all []object
	var end time.Time
	for _, cert := range c.Certificates {
		o, err := a.certificate(cert)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
		x, err := x509.ParseCertificate(cert.DER)
		if err != nil {
			return nil, fmt.Errorf("reading the %s certificate: %w", cert.Key.Type, err)
		}
		if end.IsZero() || x.NotAfter.Before(end) {
			end = x.NotAfter
		}
	}
	var ccc piv.CCC
	rand.Read(ccc.ID[:])
	all = append(all, object{piv.CHUIDObject, a.chuid(end).Encode()}, object{piv.CCCObject, ccc.Encode()})
	if a.keepsKey || !a.profile.PIV.Printed {
		return all, nil
	}
	v := a.profile.PIV
	return append(all, object{piv.PrintedInformation, piv.Printed{
		Name: c.Label, Affiliation: v.Affiliation, Expiry: piv.PrintedExpiry(end), Serial: a.link.Card().CUID.String(),
		Issuer: v.Organization, Organization: v.Organization,
	}.Encode()}), nil
}

// certificate is compressed where it would not fit, or the profile wants it.
func (a *applet) certificate(c tps.CardCertificate) (object, error) {
	o := object{slotOf(c.Key).Certificate(), piv.EncodeCertificate(c.DER)}
	if a.profile.Enroll.Compress || len(o.content) > maxObject {
		o.content = piv.CompressCertificate(c.DER)
	}
	if len(o.content) > maxObject {
		return o, tps.Final(fmt.Errorf("the %s certificate takes %d bytes on the card, which has room for %d", c.Key.Type, len(o.content), maxObject))
	}
	return o, nil
}

// chuid has a new GUID, after which hosts name the keys of a newly personalised card;
// a card that is told from others by its GUID keeps it.
func (a *applet) chuid(end time.Time) piv.CHUID {
	if guid := a.guid; guid != [16]byte{} && guidCUID(guid) == a.link.Card().CUID {
		return piv.NewCHUID(guid, end)
	}
	var guid [16]byte
	rand.Read(guid[:])
	guid[6], guid[8] = guid[6]&0x0F|0x40, guid[8]&0x3F|0x80 // UUIDv4 (RFC 9562 §5.4)
	return piv.NewCHUID(guid, end)
}
