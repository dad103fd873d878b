package profile

import (
	"slices"
	"time"
)

// Renewal gives the rules of renewal: new certificates for the keys that a card has.
// Profiles without this section renew nothing.
type Renewal struct {
	Enabled bool `toml:"enabled"` // default false
	// Before is how many days before its end a certificate may be renewed, After how
	// many days behind it; 0 (default) = as early, as late as one likes.
	Before int `toml:"before"`
	After  int `toml:"after"`
	// OldCerts is what becomes of a certificate when another one replaces it on the card:
	// keep (default; it stays the card's, so that the loss of the card revokes it) or revoke.
	OldCerts string   `toml:"old_certs"`
	Keys     []string `toml:"keys"` // types that are renewed; empty = all
}

// Renews reports whether the keys of a type get new certificates.
func (p Profile) Renews(keyType string) bool {
	return p.Renewal.Enabled && (len(p.Renewal.Keys) == 0 || slices.Contains(p.Renewal.Keys, keyType))
}

// Window is the time in which a certificate that ends at notAfter may be renewed;
// zero = no limit on that side.
func (r Renewal) Window(notAfter time.Time) (from, until time.Time) {
	if r.Before > 0 {
		from = notAfter.AddDate(0, 0, -r.Before)
	}
	if r.After > 0 {
		until = notAfter.AddDate(0, 0, r.After)
	}
	return from, until
}

// maxDays is the longest time before or behind the end of a certificate: a century.
const maxDays = 36525

func (p Profile) validateRenewal(c *check) {
	r := p.Renewal
	c.between("renewal.before", r.Before, 0, maxDays)
	c.between("renewal.after", r.After, 0, maxDays)
	c.oneOf("renewal.old_certs", r.OldCerts, "keep", "revoke")
	types := make([]string, len(p.Key))
	for i, k := range p.Key {
		types[i] = k.Type
	}
	c.subset("renewal.keys", r.Keys, types)
	c.that(!r.Enabled || p.Serves(Renewing), "renewal is enabled, but operations does not name %s", Renewing)
}
