package tps_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/tps/token"
)

// successors are the serials of a renewed card's new certificates: each has the key of
// the one before it, which is active too. Where the first request had been fulfilled
// before it failed, the second one has renewed them once more.
func successors(ctx context.Context, db token.Certificates, cuid apdu.CUID) ([]string, error) {
	certs, err := db.CertificatesOf(ctx, cuid)
	if err != nil {
		return nil, err
	}
	keys, active := map[string][]string{}, map[string][]string{}
	for _, c := range certs {
		if c.State != token.CertActive {
			continue
		}
		x, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, err
		}
		keys[c.KeyType] = append(keys[c.KeyType], string(x.RawSubjectPublicKeyInfo))
		active[c.KeyType] = append(active[c.KeyType], c.Serial)
	}
	var last []string
	for t, serials := range active {
		if n := len(serials); n < 2 || n > 3 || len(slices.Compact(keys[t])) != 1 {
			return nil, fmt.Errorf("%d active %s certificates, want an old one and a new one of one key", n, t)
		}
		last = append(last, serials[len(serials)-1])
	}
	slices.Sort(last)
	return last, nil
}
