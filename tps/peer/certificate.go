package peer

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// peerUsage is the extended key usage of a peer certificate, beside serverAuth and
// clientAuth. A certificate without it opens nothing between nodes, whoever signed it.
// It stands below the arc that RFC 5612 keeps free of owners: crypto/x509 reads no arc
// of more than 28 bits, so a UUID below 2.25 (X.667) is out of reach. It means nothing
// outside an array.
var peerUsage = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 8444, 1}

// caLife is how long a CA of the array lasts at most (B2.1).
const caLife = 10 * 365 * 24 * time.Hour

// skew is the difference of clocks that dates are read with.
const skew = time.Minute

// domainOf is the DNS domain that a CA must be allowed for to certify a name: what
// follows the first dot, or the name itself where it has none.
func domainOf(name string) string {
	if _, parent, ok := strings.Cut(name, "."); ok {
		return parent
	}
	return name
}

// within says whether a name may be certified under the domains.
func within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

// newCA makes the certificate of a CA: pathlen 0, and constrained (critical) to the
// domains and to no IP address at all.
func newCA(s State, epoch uint64, key crypto.Signer, now time.Time) ([]byte, error) {
	everywhere := []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	t := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: fmt.Sprintf("TMS peer CA %s e%d", s.ID, epoch)},
		NotBefore:                   now.Add(-skew),
		NotAfter:                    now.Add(caLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         s.Domains,
		ExcludedIPRanges:            everywhere,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the array CA's certificate: %w", err)
	}
	return der, nil
}

// checkCA says whether a certificate has the form of an array's CA.
func checkCA(c *x509.Certificate) error {
	if !c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != 0 || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("it is no CA for end certificates alone")
	}
	if !strings.HasPrefix(c.Subject.CommonName, "TMS peer CA ") || !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) == 0 {
		return errors.New("it is no CA of an array")
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("it is not signed by itself: %w", err)
	}
	return nil
}

// issue makes a peer certificate for a member.
func (s State) issue(m Member, pub crypto.PublicKey, ca *x509.Certificate, key crypto.Signer, now time.Time, life time.Duration) ([]byte, error) {
	end := now.Add(life)
	if end.After(ca.NotAfter) {
		end = ca.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: m.Name},
		NotBefore:             now.Add(-skew),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{peerUsage},
		DNSNames:              []string{m.Name},
		URIs:                  []*url.URL{{Scheme: "tms", Opaque: s.ID + ":" + m.Node}},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing the peer certificate of %s: %w", m.Name, err)
	}
	return der, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails, crypto/rand
	b[0] = b[0]&0x7F | 0x40
	return new(big.Int).SetBytes(b)
}

func serialText(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func spkiHash(c *x509.Certificate) string {
	h := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

func issuedAs(c *x509.Certificate, ca uint64) Issued {
	return Issued{Serial: serialText(c), SPKI: spkiHash(c), CA: ca, NotAfter: c.NotAfter.UTC()}
}

// identityOf reads array and node of a peer certificate; empty where it has none.
func identityOf(c *x509.Certificate) (array, node string) {
	for _, u := range c.URIs {
		if u.Scheme == "tms" {
			array, node, _ = strings.Cut(u.Opaque, ":")
			return array, node
		}
	}
	return "", ""
}
