package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/tps/seal"
)

// renewBefore is how long before its end the node's own certificate is replaced.
const renewBefore = 30 * 24 * time.Hour

// certificate returns the server certificate: the configured one, or one that
// the node makes for itself under the embedded authority, at first start and
// when it is about to end or the names have changed.
func (n *Node) certificate(ctx context.Context) (tls.Certificate, error) {
	l := n.Config.Listen
	if l.Certificate != "" {
		c, err := tls.LoadX509KeyPair(n.path(l.Certificate), n.path(l.Key))
		if err != nil {
			return c, fmt.Errorf("reading the server certificate: %w", err)
		}
		return c, nil
	}
	c, err := n.ownPair(ctx)
	if err == nil && n.serves(c.Leaf) {
		return c, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && seal.CodeOf(err) != "" {
		return c, err // a key that somebody put there is not replaced in silence
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.WarnContext(ctx, "the server certificate is unreadable and is made anew", "err", err)
	}
	if err := n.makeCertificate(ctx); err != nil {
		return tls.Certificate{}, fmt.Errorf("making the server certificate: %w", err)
	}
	return n.ownPair(ctx)
}

// ownPair reads the node's own certificate and key.
func (n *Node) ownPair(ctx context.Context) (tls.Certificate, error) {
	chain, err := os.ReadFile(n.path(serverCertFile))
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := n.serverKey().Load(ctx)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer key.Wipe()
	return tls.X509KeyPair(chain, key.Bytes())
}

// serverKey is the key of the node's own certificate.
func (n *Node) serverKey() sealing.RoleFile { return n.sealing.File(n.Folder, sealing.RoleServerKey) }

// serves reports whether a certificate still does: names, issuer, time.
func (n *Node) serves(leaf *x509.Certificate) bool {
	roots := x509.NewCertPool()
	roots.AddCert(n.Authority.Certificate())
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil || time.Until(leaf.NotAfter) < renewBefore {
		return false
	}
	return !slices.ContainsFunc(n.Config.Listen.Names, func(name string) bool { return leaf.VerifyHostname(name) != nil })
}

func (n *Node) makeCertificate(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	var names []string
	var ips []net.IP
	for _, name := range n.Config.Listen.Names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, name)
		}
	}
	c, err := n.Authority.IssueServer(ctx, &key.PublicKey, names, ips)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	chain := pemOf("CERTIFICATE", c.DER)
	for _, above := range n.Authority.Chain() { // also for clients that know an older key of the authority only
		chain = append(chain, pemOf("CERTIFICATE", above)...)
	}
	// The key goes first: a cut between the two leaves a pair that does not match,
	// which is noticed and made anew.
	if err := n.serverKey().Save(ctx, secret.New(pemOf("PRIVATE KEY", der))); err != nil {
		return err
	}
	return sealing.WriteFile(n.path(serverCertFile), chain, 0o644)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
