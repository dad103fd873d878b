package peer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"inkan/tps/peer"
)

// dialJoin opens a connection of a node that joins, which trusts nothing.
func dialJoin(t *testing.T, b *box) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", b.cfg.Address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{peer.JoinProtocol}})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func readAll(r io.Reader) string {
	b, _ := io.ReadAll(r)
	return string(b)
}

// knock sends a request with a certificate, or without one, and says what comes back.
func knock(t *testing.T, b *box, certs ...tls.Certificate) (string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", b.cfg.Address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, Certificates: certs})
	if err != nil {
		return "", err
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	io.WriteString(c, "GET /array/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // may be too late
	text, err := io.ReadAll(c)
	return string(text), err
}

// mint makes a certificate of a CA that is not the array's, as a public one would.
func mint(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Public CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tps1.example"}, DNSNames: []string{"tps1.example"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	change(leaf)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestStranger: a valid certificate of another CA, whatever it says, opens nothing; nor
// does none, nor one of another array.
func TestStranger(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	s, _ := p.State()
	imitation := func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "tms", Opaque: s.ID + ":" + s.Primary}}
		c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, peer.PeerUsage)
	}
	for name, certs := range map[string][]tls.Certificate{
		"none":           nil,
		"public CA":      {mint(t, func(*x509.Certificate) {})},
		"imitated names": {mint(t, imitation)},
	} {
		text, err := knock(t, p, certs...)
		var alert tls.AlertError
		if text != "" || err == nil {
			t.Errorf("%s: %q, %v", name, text, err)
		} else if errors.As(err, &alert) && name == "none" && !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := primaryBox(t, "tps1.example", peer.TPS)
	o, _ := other.State()
	// A node of another array that thinks the address is its own member's.
	k := newBox(t, "tks1.example", peer.TKS)
	must(t, k.ask(other, peer.JoinOptions{}))
	k.run()
	other.converged()
	other.halt()
	p.halt()
	p.cfg.Address = other.cfg.Address
	p.open()
	p.run()
	_, err := k.get(other, "/array/v1/status")
	refused(t, "another array's primary", err, peer.ErrUnknownAuthority)
	for _, want := range []string{s.ID, o.ID, "epoch"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// TestVerify: every rule of B2.2 has an error of its own.
func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Second)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	s := peer.State{Format: 1, ID: "01a2017f-dc0c-7eb2-81c3-f2cbae0f43cf", Name: "site", Epoch: 7, Domains: []string{"example"}}
	m := peer.Member{Node: "01a2017f-dc0c-7eb2-81c3-f2cbae0f43c0", Name: "tks1.example", State: peer.Active, Roles: []peer.Role{peer.TKS}}
	der, err := peer.NewCA(s, 7, caKey, now)
	must(t, err)
	ca, err := x509.ParseCertificate(der)
	must(t, err)
	s.Members, s.CAs = []peer.Member{m}, []peer.Authority{{Epoch: 7, Role: peer.CurrentCA, Certificate: der}}
	leaf := func(s peer.State, m peer.Member, at time.Time) *x509.Certificate {
		der, err := peer.Issue(s, m, &key.PublicKey, ca, caKey, at)
		must(t, err)
		c, err := x509.ParseCertificate(der)
		must(t, err)
		return c
	}
	signed := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(9), DNSNames: []string{m.Name}, NotBefore: now, NotAfter: now.Add(time.Hour),
			URIs:        []*url.URL{{Scheme: "tms", Opaque: s.ID + ":" + m.Node}},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, UnknownExtKeyUsage: leaf(s, m, now).UnknownExtKeyUsage}
		change(c)
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		must(t, err)
		c, err = x509.ParseCertificate(der)
		must(t, err)
		return c
	}
	good := leaf(s, m, now)
	life := 7 * 24 * time.Hour
	public, err := x509.ParseCertificate(mint(t, func(*x509.Certificate) {}).Certificate[0])
	must(t, err)
	for name, c := range map[string]struct {
		leaf   *x509.Certificate
		change func(*peer.State)
		at     time.Duration
		want   error
	}{
		"good":                {leaf: good},
		"client only":         {leaf: signed(func(*x509.Certificate) {})},
		"in the tolerance":    {leaf: good, at: life + 59*time.Second},
		"early, in it":        {leaf: good, at: -119 * time.Second},
		"no certificate":      {want: peer.ErrNoCertificate},
		"other CA":            {leaf: public, want: peer.ErrUnknownAuthority},
		"CA itself":           {leaf: ca, want: peer.ErrForeignArray},
		"expired":             {leaf: good, at: life + 61*time.Second, want: peer.ErrExpired},
		"not valid yet":       {leaf: good, at: -122 * time.Second, want: peer.ErrNotYetValid},
		"outside the domains": {leaf: leaf(s, peer.Member{Node: m.Node, Name: "tks1.elsewhere"}, now), want: peer.ErrOutsideDomains},
		"an IP address":       {leaf: signed(func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, []byte{127, 0, 0, 1}) }), want: peer.ErrOutsideDomains},
		"no peer usage":       {leaf: signed(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), want: peer.ErrUsage},
		"server only":         {leaf: signed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), want: peer.ErrUsage},
		"common name alone":   {leaf: signed(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, m.Name }), want: peer.ErrName},
		"a second name":       {leaf: signed(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "x.example") }), want: peer.ErrName},
		"no identity":         {leaf: signed(func(c *x509.Certificate) { c.URIs = nil }), want: peer.ErrForeignArray},
		"foreign array":       {leaf: good, change: func(s *peer.State) { s.ID = m.Node }, want: peer.ErrForeignArray},
		"no member":           {leaf: good, change: func(s *peer.State) { s.Members = nil }, want: peer.ErrUnknownNode},
		"detached": {leaf: good, change: func(s *peer.State) {
			s.Members, s.Removed = nil, []peer.Departed{{Node: m.Node, Reason: "detached"}}
		}, want: peer.ErrDetached},
		"revoked": {leaf: good, change: func(s *peer.State) {
			s.Revoked = []peer.Revocation{{Serial: good.SerialNumber.Text(16)}}
		}, want: peer.ErrRevoked},
		"renamed":  {leaf: good, change: func(s *peer.State) { s.Members[0].Name = "tks9.example" }, want: peer.ErrName},
		"lost":     {leaf: good, change: func(s *peer.State) { s.Members[0].State = peer.Lost }, want: peer.ErrMemberState},
		"draining": {leaf: good, change: func(s *peer.State) { s.Members[0].State = peer.Draining }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s
			s.Members = []peer.Member{m}
			if c.change != nil {
				c.change(&s)
			}
			var chain []*x509.Certificate
			if c.leaf != nil {
				chain = append(chain, c.leaf)
			}
			_, err := peer.Verify(s, chain, x509.ExtKeyUsageClientAuth, now.Add(c.at))
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestImpostor: an operator accepts the wrong CA. Whoever has its key relays what the
// node sends to the real primary, and gets neither the code nor a certificate.
func TestImpostor(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	s, _ := p.State()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca, err := peer.NewCA(s, 1, key, time.Now())
	must(t, err)
	parsed, err := x509.ParseCertificate(ca)
	must(t, err)
	leaf, err := peer.Issue(s, s.Members[0], &key.PublicKey, parsed, key, time.Now())
	must(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{peer.JoinProtocol},
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf, ca}, PrivateKey: key}}})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	sent := make(chan []byte, 4)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relay(p.cfg.Address, c, sent)
		}
	}()
	code, err := p.Invite("tks1.example", []peer.Role{peer.TKS}, 0)
	must(t, err)
	x := newBox(t, "tks1.example", peer.TKS)
	err = x.Join(t.Context(), peer.JoinOptions{Primary: l.Addr().String(), Code: code, Confirm: func(peer.Offer) (bool, error) { return true, nil }})
	refused(t, "join through an impostor", err, peer.ErrInvite)
	same(t, "members", len(p.converged().Members), 1)
	if b := <-sent; len(b) != 0 {
		t.Errorf("%q was sent before the CA was accepted", b)
	}
	if b := <-sent; len(b) == 0 || strings.Contains(string(b), string(code.Bytes())) {
		t.Errorf("the request is %q", b)
	}
	must(t, x.Join(t.Context(), peer.JoinOptions{Primary: p.cfg.Address, Code: code, Fingerprint: p.CAs()[0].Fingerprint}))
}

// relay copies in both directions and tells what the client has sent.
func relay(to string, c net.Conn, sent chan<- []byte) {
	defer c.Close()
	up, err := tls.Dial("tcp", to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{peer.JoinProtocol}})
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		io.Copy(c, up)
		c.Close()
	}()
	var b bytes.Buffer
	io.Copy(up, io.TeeReader(c, &b))
	sent <- b.Bytes()
}
