package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"inkan/tps/wire"
)

// Server says which server to use and why it may be trusted. Exactly one of the
// three ways applies: the file, the fingerprint, or what the person accepted (or
// accepts now); before that, the system's roots.
type Server struct {
	URL         string
	Trust       string // PEM file of CA certificates
	Fingerprint string // SHA-256 of a CA certificate in the server's chain; it is remembered
	KnownHosts  string // file of accepted CAs; empty: in the person's configuration folder
	// Ask shows the fingerprint of a server that nothing vouches for yet; nil = refuse.
	Ask func(addr string, ca *x509.Certificate) (bool, error)
}

// ErrNotTrusted means that nothing vouches for the server.
var ErrNotTrusted = errors.New("the server's certificate is not trusted")

// Client returns a client for the server. It may look at the server's
// certificate, and never sends anything over a connection that is not verified.
func (s Server) Client(ctx context.Context) (*wire.Client, error) {
	addr, err := hostPort(s.URL)
	if err != nil {
		return nil, err
	}
	c := &wire.Client{BaseURL: s.URL}
	if s.Trust != "" {
		c.TLS, err = wire.FileTrust(s.Trust)
		return c, err
	}
	known, err := s.known()
	if err != nil {
		return nil, err
	}
	ca, err := known.Lookup(addr)
	if err != nil {
		return nil, err
	}
	if ca == nil || s.Fingerprint != "" {
		if ca, err = s.accept(ctx, addr, known); err != nil {
			return nil, err
		}
	}
	if ca == nil { // the system's roots vouch for it
		c.TLS = wire.SystemTrust()
		return c, nil
	}
	c.TLS = wire.CertificateTrust(ca)
	return c, nil
}

// accept looks at the server and has the fingerprint or the person decide. nil
// means that the system's roots do.
func (s Server) accept(ctx context.Context, addr string, known wire.KnownHosts) (*x509.Certificate, error) {
	p, err := wire.Look(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", addr, err)
	}
	ca := p.CA()
	switch {
	case s.Fingerprint != "":
		f, err := wire.ParseFingerprint(s.Fingerprint)
		if err != nil {
			return nil, err
		}
		if ca, err = p.Find(f); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotTrusted, err)
		}
	case trustedBySystem(p):
		return nil, nil
	case s.Ask == nil:
		return nil, fmt.Errorf("%w: give its CA with --trust FILE or --fingerprint %v (compare it with what inkan serve prints)", ErrNotTrusted, wire.FingerprintOf(ca))
	default:
		yes, err := s.Ask(addr, ca)
		if err != nil {
			return nil, err
		}
		if !yes {
			return nil, fmt.Errorf("%w: you did not accept it", ErrNotTrusted)
		}
	}
	if err := p.Verify(ca); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotTrusted, err)
	}
	return ca, known.Accept(addr, ca)
}

func trustedBySystem(p wire.Presented) bool {
	between := x509.NewCertPool()
	for _, c := range p.Chain[1:] {
		between.AddCert(c)
	}
	_, err := p.Chain[0].Verify(x509.VerifyOptions{DNSName: p.Host, Intermediates: between})
	return err == nil
}

func (s Server) known() (wire.KnownHosts, error) {
	if s.KnownHosts != "" {
		return wire.KnownHosts{File: s.KnownHosts}, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return wire.KnownHosts{}, fmt.Errorf("finding your configuration folder: %w", err)
	}
	return wire.KnownHosts{File: filepath.Join(dir, "inkan", "known-servers")}, nil
}

func hostPort(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("server address %q: want https://host[:port]", address)
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}
