package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// serverName is the profile name in the records of server certificates; no request can ask for it.
const serverName = "(server)"

func serverProfile() CertProfile {
	return CertProfile{
		Name:     serverName,
		RSAUsage: x509.KeyUsageDigitalSignature,
		ECUsage:  x509.KeyUsageDigitalSignature,
	}
}

// serverTemplate is the certificate of a TLS server with the given names.
func serverTemplate(dnsNames []string, ips []net.IP) (*x509.Certificate, error) {
	for _, name := range dnsNames {
		if err := checkHostName(name); err != nil {
			return nil, err
		}
	}
	for _, ip := range ips {
		if ip.To16() == nil {
			return nil, fmt.Errorf("%w: IP address of %d bytes", ErrRefused, len(ip))
		}
	}
	var first string
	switch {
	case len(dnsNames) > 0:
		first = dnsNames[0]
	case len(ips) > 0:
		first = ips[0].String()
	default:
		return nil, fmt.Errorf("%w: server certificate without host name and address", ErrRefused)
	}
	t := &x509.Certificate{
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidServerAuth},
		DNSNames:           dnsNames,
		IPAddresses:        ips,
	}
	if len(first) <= maxCommonName {
		t.Subject = pkix.Name{CommonName: first}
	} else {
		t.Subject = pkix.Name{CommonName: "server"}
	}
	return t, nil
}

// checkHostName accepts a DNS name, with a wildcard at most as its first label.
func checkHostName(name string) error {
	_, notIP := netip.ParseAddr(name)
	if len(name) > 253 || notIP == nil {
		return fmt.Errorf("%w: %q is no host name", ErrRefused, name)
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		odd := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || odd || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("%w: %q is no host name", ErrRefused, name)
		}
	}
	return nil
}
