package peer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/wire"
)

// Offer is what a primary shows to a node that wants to join, before anything is
// sent to it. Only CA is evidence, and it is what Fingerprint and Words are of.
type Offer struct {
	Array       string // id
	Name        string
	Primary     string // DNS name
	Members     int
	CA          *x509.Certificate
	Fingerprint wire.Fingerprint
	Words       string // see [Words]
}

// JoinOptions are for [Node.Join].
type JoinOptions struct {
	Primary string        // host:port
	Code    secret.Secret // of the invite
	// Fingerprint of the CA to expect; zero: Confirm decides.
	Fingerprint wire.Fingerprint
	// Confirm asks a person whether to trust the CA.
	Confirm func(Offer) (bool, error)
	// Replace has the primary detach a member of the same name, which is this node's
	// earlier life.
	Replace bool
	// Accept looks at what the members have before this node becomes one. Where it
	// refuses, the node is none, and the same code may be used again. May be nil.
	Accept func(s State, documents map[string][]byte) error
}

// Join makes this node a member of the array of a primary. It has to serve and run
// from then on, so that the others see it become active. Where Join was cut, the same
// code may be used again. A node alone in its array leaves that array for the new one,
// as does one whose certificate has expired or that was superseded. Errors: [ErrFingerprint], and as answers of the primary [ErrInvite], [ErrVersion],
// [ErrClock], [ErrNameTaken], [ErrBusy], [ErrNotPrimary].
func (n *Node) Join(ctx context.Context, o JoinOptions) error {
	v := n.view.Load()
	expired := v.leaf != nil && n.cfg.Now().After(v.leaf.NotAfter)
	if v.rec.Phase == leaving || v.rec.Phase == inside && len(v.rec.State.Members) > 1 && !expired {
		return ErrInside
	}
	end, err := n.only(ctx)
	if err != nil {
		return err
	}
	defer end()
	code, err := codeOf(o.Code)
	if err != nil {
		return err
	}
	defer code.Wipe()
	offer, err := n.look(ctx, o.Primary)
	if err != nil {
		return fmt.Errorf("looking at the primary %s: %w", o.Primary, err)
	}
	if err := o.decide(offer); err != nil {
		return err
	}
	n.own.Lock()
	defer n.own.Unlock()
	key, err := n.nextKey(ctx)
	if err != nil {
		return err
	}
	answer, err := n.ask(ctx, o, offer, code, key)
	if err != nil {
		return fmt.Errorf("joining the array of %s: %w", o.Primary, err)
	}
	node, err := answer.check(offer, key, n.cfg.Name)
	if err != nil {
		return fmt.Errorf("joining the array of %s: %w", o.Primary, err)
	}
	if o.Accept != nil {
		if err := o.Accept(answer.Array.State, answer.Array.Documents); err != nil {
			return err
		}
	}
	err = n.commit(func(r *record) error {
		*r = record{Phase: inside, Node: node, State: answer.Array.State, Documents: answer.Array.Documents,
			Certificate: answer.Certificate, Labels: r.Labels}
		return nil
	})
	if err != nil {
		return err
	}
	n.wake()
	return n.keepKey(ctx, key)
}

// decide compares the fingerprint, or asks.
func (o JoinOptions) decide(offer Offer) error {
	if o.Fingerprint != (wire.Fingerprint{}) {
		if o.Fingerprint != offer.Fingerprint {
			return fmt.Errorf("%w: %s has %v, expected %v", ErrFingerprint, o.Primary, offer.Fingerprint, o.Fingerprint)
		}
		return nil
	}
	if o.Confirm == nil {
		return fmt.Errorf("%w: nobody was there to confirm %v", ErrFingerprint, offer.Fingerprint)
	}
	ok, err := o.Confirm(offer)
	if err == nil && !ok {
		err = fmt.Errorf("%w: the operator rejected %v", ErrFingerprint, offer.Fingerprint)
	}
	return err
}

// knock opens a connection of a node that joins, and reads the greeting. verify looks
// at the chain inside the handshake.
func knock(ctx context.Context, addr string, verify func(chain []*x509.Certificate) error) (*tls.Conn, greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{JoinProtocol},
		SessionTicketsDisabled: true,
		// There is no trust yet, or only that in the CA which verify knows.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if cs.NegotiatedProtocol != JoinProtocol {
				return errors.New("it is no node of an array")
			}
			return verify(cs.PeerCertificates)
		},
	}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, greeting{}, err
	}
	c.SetDeadline(time.Now().Add(doorTime))
	var g struct {
		greeting
		Refusal *RemoteError `json:"refusal"`
	}
	err = readFrame(c, maxRequest, &g)
	switch {
	case err == nil && g.Refusal != nil:
		err = g.Refusal
	case err == nil:
		err = g.check()
	}
	if err != nil {
		c.Close()
		return nil, greeting{}, err
	}
	return c.(*tls.Conn), g.greeting, nil
}

// look reads what the primary shows and sends nothing.
func (n *Node) look(ctx context.Context, addr string) (Offer, error) {
	var ca *x509.Certificate
	c, g, err := knock(ctx, addr, func(chain []*x509.Certificate) error {
		for _, c := range chain {
			if checkCA(c) == nil && chain[0].CheckSignatureFrom(c) == nil {
				ca = c
				return nil
			}
		}
		return errors.New("it shows no CA of an array")
	})
	if err != nil {
		return Offer{}, err
	}
	c.Close()
	f := wire.FingerprintOf(ca)
	return Offer{Array: g.Array, Name: g.Name, Primary: g.Primary, Members: g.Members, CA: ca, Fingerprint: f, Words: Words(f)}, nil
}

// ask sends the request on a connection verified against exactly the CA that was
// accepted. Any node that this CA certifies may be at the other end: only the one
// that has the code can answer.
func (n *Node) ask(ctx context.Context, o JoinOptions, offer Offer, code secret.Secret, key *ecdsa.PrivateKey) (joinAnswer, error) {
	var a joinAnswer
	c, _, err := knock(ctx, o.Primary, func(chain []*x509.Certificate) error {
		roots := x509.NewCertPool()
		roots.AddCert(offer.CA)
		return verifyAt(chain[0], roots, x509.ExtKeyUsageServerAuth)
	})
	if err != nil {
		return a, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	csr, err := request(key, n.cfg.Name)
	if err != nil {
		return a, err
	}
	exp, err := exporter(c)
	if err != nil {
		return a, err
	}
	id, verifier := marks(code)
	defer clear(verifier)
	body, err := canonical(joinRequest{Invite: id, Name: n.cfg.Name, Address: n.cfg.Address, Roles: n.cfg.Roles,
		Version: n.cfg.Version, Time: n.cfg.Now().UTC(), Replace: o.Replace, CSR: csr})
	if err != nil {
		return a, err
	}
	in, out := proved{Body: body}, proved{}
	in.MAC = in.mac(verifier, requestLabel, exp)
	if err := writeFrame(c, in); err != nil {
		return a, err
	}
	if err := readFrame(c, maxAnswer, &out); err != nil {
		return a, err
	}
	if out.Refusal != nil {
		return a, out.Refusal
	}
	if !out.good(verifier, answerLabel, exp) {
		return a, fmt.Errorf("%w: the other side does not have the code of the invite", ErrInvite)
	}
	err = strict(out.Body, &a)
	return a, err
}

// request makes a PKCS#10 request.
func request(key *ecdsa.PrivateKey, name string) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
}

// check says whether an answer is what was asked for, and gives the new node's id.
func (a joinAnswer) check(offer Offer, key *ecdsa.PrivateKey, name string) (node string, err error) {
	if err := a.Array.check(); err != nil {
		return "", err
	}
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	s := a.Array.State
	current, _ := s.CA(CurrentCA)
	if !bytes.Equal(current.Certificate, offer.CA.Raw) {
		return "", fmt.Errorf("%w: the array's CA is another one by now; look again", ErrState)
	}
	if !key.PublicKey.Equal(c.PublicKey) {
		return "", fmt.Errorf("%w: certificate of another key", ErrState)
	}
	if err := newTrust(s, nil).chain(c, x509.ExtKeyUsageClientAuth); err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	m, err := newTrust(s, nil).standing(c)
	if err == nil && m.Name != name {
		err = fmt.Errorf("%w: certificate of %s", ErrState, m.Name)
	}
	return m.Node, err
}

// DefaultPort is where nodes serve their peers.
const DefaultPort = "8444"

// WithPort adds [DefaultPort] to an address that has none.
func WithPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(addr, DefaultPort)
}
