package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Fingerprint is the SHA-256 of a certificate's DER.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// ParseFingerprint reads 64 hexadecimal digits, with or without colons, either
// case, and with or without SHA256: in front.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	t := strings.TrimSpace(s)
	if len(t) > 7 && strings.EqualFold(t[:7], "SHA256:") {
		t = t[7:]
	}
	b, err := hex.DecodeString(strings.ReplaceAll(t, ":", ""))
	if err != nil || len(b) != len(f) {
		return f, errors.New("a fingerprint is 64 hexadecimal digits (SHA-256)")
	}
	copy(f[:], b)
	return f, nil
}

// String is SHA256: and 32 pairs of upper-case digits between colons, as OpenSSL
// prints them.
func (f Fingerprint) String() string {
	pairs := make([]string, len(f))
	for i, b := range f {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return "SHA256:" + strings.Join(pairs, ":")
}

// SystemTrust trusts the roots of the operating system.
func SystemTrust() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

// FileTrust trusts the certificates in a PEM file and nothing else.
func FileTrust(name string) (*tls.Config, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading trusted certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("reading trusted certificates: %s holds no PEM certificate", name)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// CertificateTrust trusts one certificate and nothing else: a CA's, or a server's
// own. Chain, host name and validity are verified as ever.
func CertificateTrust(c *x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// Presented is the certificate chain that a server showed. Nothing in it is
// trusted yet.
type Presented struct {
	Host  string // name that the certificate must be for
	Chain []*x509.Certificate
}

var errLooked = errors.New("looked")

// Look connects to addr (host:port), reads the certificate chain the server
// shows, and hangs up inside the handshake: nothing is ever sent over the
// connection that nobody has verified.
func Look(ctx context.Context, addr string) (Presented, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return Presented{}, fmt.Errorf("looking at the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	p := Presented{Host: host}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		// Only to see the chain: VerifyConnection ends every handshake.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			p.Chain = cs.PeerCertificates
			return errLooked
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
		return Presented{}, errors.New("looking at the server: handshake was not ended")
	}
	if !errors.Is(err, errLooked) || len(p.Chain) == 0 {
		return Presented{}, fmt.Errorf("looking at the server: %w", err)
	}
	return p, nil
}

// CA returns the uppermost certificate of the chain that leads down to the
// server's by valid signatures; the server's own where it stands alone. Where an
// authority has several keys that vouch for each other, it is the self-signed
// certificate of the one that is nearest to the server's.
func (p Presented) CA() *x509.Certificate {
	if len(p.Chain) == 0 {
		return nil
	}
	top := p.Chain[0]
	for range p.Chain {
		next := top
		if !selfSigned(top) {
			for _, c := range p.Chain[1:] {
				if !c.IsCA || c.Equal(top) || top.CheckSignatureFrom(c) != nil {
					continue
				}
				if next == top || selfSigned(c) {
					next = c
				}
			}
		}
		if next == top {
			break
		}
		top = next
	}
	return top
}

func selfSigned(c *x509.Certificate) bool {
	return c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// Verify says whether a connection that trusts c alone would be good: chain, host
// name, validity. Ask before c is accepted for ever.
func (p Presented) Verify(c *x509.Certificate) error {
	if len(p.Chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: p.Host,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	opts.Roots.AddCert(c)
	for _, i := range p.Chain[1:] {
		opts.Intermediates.AddCert(i)
	}
	if _, err := p.Chain[0].Verify(opts); err != nil {
		return fmt.Errorf("verifying the server's certificate: %w", err)
	}
	return nil
}

// Find returns the certificate of the chain with this fingerprint, verified as
// [Presented.Verify] does.
func (p Presented) Find(f Fingerprint) (*x509.Certificate, error) {
	for _, c := range p.Chain {
		if FingerprintOf(c) == f {
			return c, p.Verify(c)
		}
	}
	return nil, fmt.Errorf("%s shows no certificate with fingerprint %v; its CA has %v", p.Host, f, FingerprintOf(p.CA()))
}
