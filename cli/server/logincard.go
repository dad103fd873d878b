package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"

	"inkan/cli/config"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// cardLogins takes the certificates on cards for logins; nil where the configuration
// does not.
func (n *Node) cardLogins() (realm.Cards, error) {
	if !n.takesCards() {
		return nil, nil
	}
	n.loginAuthorities = n.Authority.Certificates()
	for _, file := range n.Config.Auth.Authorities {
		more, err := readCertificates(n.path(file))
		if err != nil {
			return nil, fmt.Errorf("[auth] authorities: %w", err)
		}
		n.loginAuthorities = append(n.loginAuthorities, more...)
	}
	return auth.NewCards(auth.CardsConfig{Authorities: n.loginAuthorities, Records: n.DB, NeedsPIN: n.needsPIN})
}

// takesCards reports whether people log in with the certificates on their cards.
func (n *Node) takesCards() bool { return n.Config.Auth.Cards == config.On }

// readCertificates reads a PEM file of certificates of authorities.
func readCertificates(file string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: decoding certificate %d: %w", file, len(all)+1, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s: certificate %d is not an authority's", file, len(all)+1)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return all, nil
}

// needsPIN reports whether the key of a certificate needs the PIN by all profiles that it
// got a certificate by: how it was made says the first one, a renewal changes nothing.
func (n *Node) needsPIN(ctx context.Context, c token.Certificate) (bool, error) {
	all, err := n.DB.CertificatesOf(ctx, c.CUID)
	if err != nil {
		return false, fmt.Errorf("reading the card's certificates: %w", err)
	}
	found := false
	for _, other := range all {
		if !tps.SameKey(other, c) {
			continue
		}
		if needs, err := n.profileNeedsPIN(ctx, other); err != nil || !needs {
			return false, err
		}
		found = true
	}
	return found, nil
}

// profileNeedsPIN finds the key of a certificate in the revision of the profile that it
// was issued by.
func (n *Node) profileNeedsPIN(ctx context.Context, c token.Certificate) (bool, error) {
	j, err := n.DB.Journal(ctx, c.Operation)
	if err != nil {
		return false, fmt.Errorf("reading the journal of its enrollment: %w", err)
	}
	rec, err := n.DB.ProfileRevision(ctx, j.Profile, j.ProfileRevision)
	if err != nil {
		return false, fmt.Errorf("reading revision %d of profile %s: %w", j.ProfileRevision, j.Profile, err)
	}
	p, err := profile.Decode([]byte(rec.Document))
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(p.Key, func(k profile.Key) bool { return k.Type == c.KeyType && k.Cert == c.Number })
	return i >= 0 && p.Key[i].NeedsPIN(), nil
}

// askCertificates has clients show a certificate if they have one for us. It is not
// verified here: that there is none, or another one, is the business of a login with it
// alone. Each connection shows it anew, no resumed one goes on with that of another.
func (n *Node) askCertificates(t *tls.Config) {
	t.ClientAuth, t.ClientCAs, t.SessionTicketsDisabled = tls.RequestClientCert, x509.NewCertPool(), true
	for _, a := range n.loginAuthorities {
		t.ClientCAs.AddCert(a)
	}
}
