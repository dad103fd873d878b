package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"inkan/tps/token"
)

// Generations is an authority through the life of its keys: the newest one
// issues, and every one goes on to revoke, list and answer for what it has
// issued. All have the same name and differ in their keys. It is safe for
// concurrent use.
type Generations struct {
	all   []*Embedded // newest first
	cross [][]byte    // between them, DER
}

var _ Authority = (*Generations)(nil)

// OpenGenerations joins opened authorities, newest first, and the certificates
// that they have for each other's keys ([CrossCertify]).
func OpenGenerations(cross [][]byte, newestFirst ...*Embedded) (*Generations, error) {
	if len(newestFirst) == 0 {
		return nil, errors.New("opening the certificate authority: no generation")
	}
	suffixes := map[string]bool{}
	for _, e := range newestFirst {
		if suffixes[e.suffix] {
			return nil, errors.New("opening the certificate authority: two generations of one number")
		}
		suffixes[e.suffix] = true
	}
	return &Generations{all: newestFirst, cross: cross}, nil
}

func (g *Generations) current() *Embedded { return g.all[0] }

// Certificate returns the certificate of the newest generation, which is not to
// be changed.
func (g *Generations) Certificate() *x509.Certificate { return g.current().Certificate() }

// Certificates returns those of all generations, newest first, which are not to be
// changed.
func (g *Generations) Certificates() []*x509.Certificate {
	var out []*x509.Certificate
	for _, e := range g.all {
		out = append(out, e.cert)
	}
	return out
}

// Chain returns, as DER, the certificate of the newest generation, those above
// it, the cross-certificates and the certificates of the other generations: with
// it, who trusts any generation can verify what another one has signed.
func (g *Generations) Chain() [][]byte {
	chain := append([][]byte{g.current().cert.Raw}, g.current().cfg.Chain...)
	chain = append(chain, g.cross...)
	for _, e := range g.all[1:] {
		chain = append(chain, e.cert.Raw)
	}
	return chain
}

// Ready says whether the newest generation can issue.
func (g *Generations) Ready(ctx context.Context) error { return g.current().Ready(ctx) }

// Issue issues with the newest generation, unless the request was made of an
// older one: then that one answers it, with the same certificate as before.
func (g *Generations) Issue(ctx context.Context, req Request) (Certificate, error) {
	for _, e := range g.all[1:] {
		_, err := e.cfg.Store.Issued(ctx, req.ID)
		if err == nil {
			return e.Issue(ctx, req)
		}
		if !errors.Is(err, token.ErrNotFound) {
			return Certificate{}, storeError("reading the record of a request", err)
		}
	}
	return g.current().Issue(ctx, req)
}

// IssueServer issues with the newest generation ([Embedded.IssueServer]).
func (g *Generations) IssueServer(ctx context.Context, pub crypto.PublicKey, dnsNames []string, ips []net.IP) (Certificate, error) {
	return g.current().IssueServer(ctx, pub, dnsNames, ips)
}

// Find returns the certificate of a request that any generation has answered, or
// ErrUnknown ([Embedded.Find]).
func (g *Generations) Find(ctx context.Context, requestID string) (Certificate, error) {
	for _, e := range g.all {
		c, err := e.Find(ctx, requestID)
		if !errors.Is(err, ErrUnknown) {
			return c, err
		}
	}
	return Certificate{}, fmt.Errorf("%w: request %s", ErrUnknown, requestID)
}

// Revoke revokes with the generation that has issued: issuer name and key
// identifier both decide, so that a serial number never hits a certificate of
// another generation.
func (g *Generations) Revoke(ctx context.Context, issuer Issuer, serial Serial, reason Reason) error {
	for _, e := range g.all {
		if err := e.Revoke(ctx, issuer, serial, reason); !errors.Is(err, ErrNotIssuer) {
			return err
		}
	}
	return ErrNotIssuer
}

// OCSP answers with the generation that the first certificate of the request
// names as its issuer; certificates of others are unknown in that answer, for one
// signature covers it all. See [Embedded.OCSP].
func (g *Generations) OCSP(ctx context.Context, request []byte) (OCSPResponse, error) {
	req, err := readOCSPRequest(request)
	if err != nil {
		return OCSPResponse{}, err
	}
	for _, e := range g.all {
		if req.certs[0].issuedBy(e.cert.RawSubject, e.keyBits) {
			return e.answerOCSP(ctx, req)
		}
	}
	return g.current().answerOCSP(ctx, req)
}
