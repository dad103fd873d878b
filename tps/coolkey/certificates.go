package coolkey

import (
	"context"
	"slices"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/tps"
	"inkan/tps/profile"
)

// Certificates implements tps.CertificateReader: those of the combined object. The
// applet shows no key but by its slot.
func (Family) Certificates(ctx context.Context, l tps.Link, p profile.Profile) ([]tps.CardCertificate, error) {
	z, err := readCombined(ctx, l.Doer())
	if err != nil {
		return nil, absent(err)
	}
	var all []tps.CardCertificate
	for _, k := range p.Key {
		if c, ok := z.Certificate(k.Cert); ok {
			all = append(all, tps.CardCertificate{Key: k, Label: c.Label, DER: c.DER})
		}
	}
	return all, nil
}

// readCombined reads the combined object of the selected applet; a card that has none, or
// a torn one, has an empty one.
func readCombined(ctx context.Context, d apdu.Doer) (z coolkey.Combined, err error) {
	list, err := apdu.ReadAhead(ctx, d, coolkey.ListObjectsEntries())
	if err != nil {
		return z, err
	}
	objects, err := coolkey.ListObjects(ctx, list)
	if err != nil {
		return z, err
	}
	i := slices.IndexFunc(objects, func(o coolkey.ObjectInfo) bool { return o.ID == coolkey.IDCombined })
	if i < 0 {
		return z, nil
	}
	b, err := coolkey.ReadObject(ctx, d, coolkey.Anonymous(), coolkey.IDCombined, 0, objects[i].Size)
	if err != nil {
		return z, err
	}
	if whole, err := coolkey.Decode(b); err == nil {
		z = whole
	}
	return z, nil
}
