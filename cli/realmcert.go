package cli

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"inkan/tps/api"
	"inkan/tps/wire"
)

// realmCertificate shows or replaces the certificate of a realm key.
func (p *program) realmCertificate(c *cli.Context) error {
	key, err := oneArgument(c, "KEY")
	if err != nil {
		return err
	}
	return p.withNode(c, func(r rest) error {
		if file := c.String("replace"); file != "" {
			return p.replaceRealmCertificate(c, r, key, file)
		}
		var k api.RealmKey
		if err := r.get(c.Context, realmKeyPath(key), nil, &k); err != nil {
			return err
		}
		chain, err := certificatesOf(k)
		if err != nil {
			return err
		}
		switch {
		case c.Bool("der"):
			_, err = p.out.Write(chain[0].Raw)
		case c.Bool("p7b"):
			var b []byte
			if b, err = pkcs7(chain); err == nil {
				_, err = p.out.Write(b)
			}
		case c.Bool("fingerprint"):
			_, err = fmt.Fprintln(p.out, wire.FingerprintOf(chain[0]))
		default:
			return p.print(c, k, func(w io.Writer) { io.WriteString(w, k.Certificates) })
		}
		return err
	})
}

func (p *program) replaceRealmCertificate(c *cli.Context, r rest, key, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var k api.RealmKey
	text := string(b)
	if err := r.patch(c.Context, realmKeyPath(key), api.RealmKeyChange{Certificates: &text}, &k); err != nil {
		return err
	}
	return p.print(c, k, func(w io.Writer) { fmt.Fprintf(w, "The certificate of key %s is replaced.\n", k.Name) })
}

// certificatesOf are those of a key, its own first.
func certificatesOf(k api.RealmKey) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(k.Certificates); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate of key %s: %w", k.Name, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("key %s has no certificate", k.Name)
	}
	return out, nil
}

// Object identifiers of PKCS #7 (RFC 2315 §14).
var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// pkcs7 holds certificates as programs import them: signed data that nobody signed
// (RFC 2315 §9.1).
func pkcs7(chain []*x509.Certificate) ([]byte, error) {
	var certificates []byte
	for _, c := range chain {
		certificates = append(certificates, c.Raw...)
	}
	type contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}
	empty := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true}
	signed, err := asn1.Marshal(struct {
		Version      int
		Digests      asn1.RawValue
		Content      contentInfo
		Certificates asn1.RawValue
		Signers      asn1.RawValue
	}{1, empty, contentInfo{Type: oidData}, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: certificates}, empty})
	if err != nil {
		return nil, fmt.Errorf("writing PKCS #7: %w", err)
	}
	return asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: signed}})
}
