package peer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"inkan/tps/token"
)

func caLabel(array string, epoch uint64) string { return fmt.Sprintf("tms:peerca:%s:%d", array, epoch) }

// makeCA makes the key and the certificate of a CA. The key's label is on record
// before the key exists, so that a cut leaves no key that nobody knows of.
func (n *Node) makeCA(ctx context.Context, s State, epoch uint64) (Authority, crypto.Signer, error) {
	label := caLabel(s.ID, epoch)
	err := n.commit(func(r *record) error {
		if !slices.Contains(r.Labels, label) {
			r.Labels = append(r.Labels, label)
		}
		return nil
	})
	if err != nil {
		return Authority{}, nil, err
	}
	if err := n.cfg.CAKeys.Destroy(ctx, label); err != nil { // what an earlier attempt has left
		return Authority{}, nil, fmt.Errorf("removing an unused array CA key: %w", err)
	}
	if err := n.at("CA key: before"); err != nil {
		return Authority{}, nil, err
	}
	key, err := n.cfg.CAKeys.Generate(ctx, label)
	if err != nil {
		return Authority{}, nil, fmt.Errorf("making the array CA's key: %w", err)
	}
	if err := n.at("CA key: after"); err != nil {
		return Authority{}, nil, err
	}
	der, err := newCA(s, epoch, key, n.now())
	if err != nil {
		return Authority{}, nil, err
	}
	return Authority{Epoch: epoch, Since: n.now(), Certificate: der}, key, nil
}

// sweep destroys the CA keys that the array has no use for any more.
func (n *Node) sweep(ctx context.Context) error {
	v := n.view.Load()
	for _, label := range v.rec.Labels {
		if n.uses(label) {
			continue
		}
		if err := n.at("destroy CA key: before"); err != nil {
			return err
		}
		if err := n.cfg.CAKeys.Destroy(ctx, label); err != nil {
			return fmt.Errorf("destroying a former array CA key: %w", err)
		}
		err := n.commit(func(r *record) error {
			r.Labels = slices.DeleteFunc(r.Labels, func(l string) bool { return l == label })
			return nil
		})
		if err != nil {
			return err
		}
		n.cfg.Log.Info("former array CA key destroyed", "label", label)
	}
	return nil
}

// uses says whether a CA key belongs to a CA of the array, or was offered to the
// primary so lately that it may become one.
func (n *Node) uses(label string) bool {
	v := n.view.Load()
	s := v.rec.State
	if o := v.rec.Offered; o != nil && caLabel(o.Array, o.Epoch) == label && n.now().Sub(o.Made) < n.cfg.MaxOverlap {
		return true
	}
	return slices.ContainsFunc(s.CAs, func(a Authority) bool {
		return a.Holder == v.rec.Node && caLabel(s.ID, a.Epoch) == label
	})
}

// signer opens the key of the current CA, which is this node's.
func (n *Node) signer(ctx context.Context) (Authority, *x509.Certificate, crypto.Signer, error) {
	s := n.view.Load().rec.State
	a, ok := s.CA(CurrentCA)
	if !ok || a.Holder != n.ID() {
		return a, nil, nil, errors.New("the key of the array's current CA is not on this node")
	}
	c, err := a.Parse()
	if err != nil {
		return a, nil, nil, err
	}
	key, err := n.cfg.CAKeys.Signer(ctx, caLabel(s.ID, a.Epoch))
	if err != nil {
		return a, nil, nil, fmt.Errorf("opening the array CA's key: %w", err)
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(c.PublicKey) {
		return a, nil, nil, errors.New("the array CA's key is not the one of its certificate")
	}
	return a, c, key, nil
}

// certify issues a certificate of the current CA for a member.
func (n *Node) certify(ctx context.Context, m Member, pub crypto.PublicKey) ([]byte, Issued, error) {
	a, ca, key, err := n.signer(ctx)
	if err != nil {
		return nil, Issued{}, err
	}
	der, err := n.view.Load().rec.State.issue(m, pub, ca, key, n.now(), n.cfg.Life)
	if err != nil {
		return nil, Issued{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, Issued{}, err
	}
	return der, issuedAs(c, a.Epoch), nil
}

// InitOptions are for [Node.Init].
type InitOptions struct {
	// Domains that members may have names in, beside that of this node's own name: for
	// tps1.example.com it is example.com. Another domain later takes [Node.RotateCA].
	Domains []string
	// RecoveryFile, if not empty, gets a new offline recovery key (PKCS#8 PEM, mode
	// 0600): [Node.ForcePromote] with it needs no confirmation on the members. Move the
	// file to a safe place; whoever has it can take the array over.
	RecoveryFile string
}

// Init makes this node the primary of a new array of one.
func (n *Node) Init(ctx context.Context, name string, o InitOptions) error {
	if n.view.Load().rec.Phase != outside {
		return ErrInside
	}
	s := State{Name: name, Domains: append([]string{domainOf(n.cfg.Name)}, o.Domains...)}
	if o.RecoveryFile != "" {
		pub, err := makeRecoveryKey(o.RecoveryFile)
		if err != nil {
			return err
		}
		s.Recovery = pub
	}
	if err := n.alone(ctx, s); err != nil {
		if o.RecoveryFile != "" && n.view.Load().rec.Phase == outside {
			err = errors.Join(err, os.Remove(o.RecoveryFile))
		}
		return fmt.Errorf("making an array: %w", err)
	}
	return nil
}

// alone makes this node the only member of a new array: new id, CA, key, certificate.
func (n *Node) alone(ctx context.Context, s State) error {
	n.own.Lock()
	defer n.own.Unlock()
	now := n.now()
	s.Format, s.ID, s.Epoch = 1, token.NewID(), 1
	m := Member{Node: token.NewID(), Name: n.cfg.Name, Address: n.cfg.Address, Roles: n.cfg.Roles,
		Version: n.cfg.Version, Joined: now, State: Active}
	s.Primary = m.Node
	s.normal(now)
	if err := errors.Join(checkText("array name", s.Name), checkDomains(s.Domains)); err != nil {
		return err
	}
	a, caKey, err := n.makeCA(ctx, s, 1)
	if err != nil {
		return err
	}
	a.Role, a.Holder = CurrentCA, m.Node
	ca, err := a.Parse()
	if err != nil {
		return err
	}
	key, err := n.nextKey(ctx)
	if err != nil {
		return err
	}
	der, err := s.issue(m, &key.PublicKey, ca, caKey, now, n.cfg.Life)
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	m.Certificates = []Issued{issuedAs(c, a.Epoch)}
	s.Members, s.CAs = []Member{m}, []Authority{a}
	s.normal(now)
	err = n.commit(func(r *record) error {
		*r = record{Phase: inside, Node: m.Node, State: s, Documents: map[string][]byte{}, Certificate: der, Labels: r.Labels}
		return nil
	})
	if err != nil {
		return err
	}
	return n.keepKey(ctx, key)
}

func checkDomains(ds []string) error {
	for _, d := range ds {
		if err := checkName(d); err != nil {
			return err
		}
	}
	return nil
}

// nextKey is a new private key, kept beside the present one until [Node.keepKey]; the
// one of an attempt that was cut is used again.
func (n *Node) nextKey(ctx context.Context) (*ecdsa.PrivateKey, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var present []*ecdsa.PrivateKey
	if leaf := n.view.Load().leaf; leaf != nil {
		present = append(present, keyOf(n.keys, leaf))
	}
	for _, k := range n.keys {
		if !slices.Contains(present, k) {
			return k, nil
		}
	}
	k, err := newKey()
	if err != nil {
		return nil, err
	}
	keys := append(present, k)
	if err := n.saveKeys(ctx, keys...); err != nil {
		return nil, err
	}
	n.keys = keys
	return k, nil
}

// keepKey forgets every private key but this one.
func (n *Node) keepKey(ctx context.Context, k *ecdsa.PrivateKey) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.keys) == 1 && n.keys[0] == k {
		return nil
	}
	if err := n.saveKeys(ctx, k); err != nil {
		return err
	}
	n.keys = []*ecdsa.PrivateKey{k}
	return nil
}

// sign signs with whatever key a CA has, as its certificate's signature algorithm is
// named for X.509.
func sign(key crypto.Signer, b []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, b, crypto.Hash(0))
	}
	h := sha256.Sum256(b)
	return key.Sign(rand.Reader, h[:], crypto.SHA256)
}

// checkSignature verifies what sign made.
func checkSignature(c *x509.Certificate, b, sig []byte) error {
	alg := x509.ECDSAWithSHA256
	switch c.PublicKeyAlgorithm {
	case x509.RSA:
		alg = x509.SHA256WithRSA
	case x509.Ed25519:
		alg = x509.PureEd25519
	}
	return c.CheckSignature(alg, b, sig)
}
