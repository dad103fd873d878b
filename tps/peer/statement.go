package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/wire"
)

// Statement says that a member is the next primary, with a CA of its own. It is
// signed by that member's peer key, and by the old CA's key; or, where the old primary
// is lost, by the array's recovery key, if by any.
type Statement struct {
	Array     string    `json:"array"`
	Epoch     uint64    `json:"epoch"`     // of the new CA
	Primary   string    `json:"primary"`   // node id
	Authority []byte    `json:"authority"` // the new CA's certificate
	Forced    bool      `json:"forced"`    // without the old primary
	Made      time.Time `json:"made"`
	// Certificate is the member's peer certificate, of a CA from before.
	Certificate []byte `json:"certificate"`
	Peer        []byte `json:"peer,omitempty"`     // signature of the member
	Old         []byte `json:"old,omitempty"`      // signature of the old CA
	Recovery    []byte `json:"recovery,omitempty"` // signature of the recovery key
}

// ParseStatement decodes a statement and checks its form, not its signatures.
func ParseStatement(b []byte) (Statement, error) {
	var s Statement
	if err := strict(b, &s); err != nil {
		return Statement{}, fmt.Errorf("decoding promotion statement: %w", err)
	}
	if err := s.check(); err != nil {
		return Statement{}, err
	}
	return s, nil
}

func (s Statement) check() error {
	if !idForm.MatchString(s.Array) || !idForm.MatchString(s.Primary) || s.Epoch == 0 || s.Epoch > 1<<53 {
		return errors.New("malformed promotion statement")
	}
	if len(s.Peer) > 1<<10 || len(s.Old) > 1<<10 || len(s.Recovery) > 1<<10 {
		return errors.New("promotion statement: signature out of bounds")
	}
	if _, err := s.ca(); err != nil {
		return fmt.Errorf("promotion statement: %w", err)
	}
	if _, err := x509.ParseCertificate(s.Certificate); err != nil {
		return fmt.Errorf("promotion statement: %w", err)
	}
	return nil
}

func (s Statement) ca() (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(s.Authority)
	if err != nil {
		return nil, err
	}
	return c, checkCA(c)
}

// signed is what the signatures are over.
func (s Statement) signed() ([]byte, error) {
	s.Peer, s.Old, s.Recovery = nil, nil, nil
	b, err := canonical(s)
	return append([]byte("tms:promotion:v1\n"), b...), err
}

// stated makes a statement of this node, signed by its peer key.
func (n *Node) stated(v *view, a Authority, forced bool) (Statement, error) {
	s := Statement{Array: v.rec.State.ID, Epoch: a.Epoch, Primary: v.rec.Node, Authority: a.Certificate,
		Forced: forced, Made: n.now(), Certificate: v.leaf.Raw}
	b, err := s.signed()
	if err != nil {
		return s, err
	}
	key, ok := v.cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return s, errors.New("the peer key does not sign")
	}
	s.Peer, err = sign(key, b)
	return s, err
}

// verify checks a statement against what a node trusts before it. recovered: the
// recovery key has signed.
func (s Statement) verify(own State) (recovered bool, err error) {
	no := func(why string) (bool, error) { return false, fmt.Errorf("%w: promotion statement: %s", ErrState, why) }
	if err := s.check(); err != nil {
		return no(err.Error())
	}
	if s.Array != own.ID {
		return no("it is for another array")
	}
	leaf, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return no(err.Error())
	}
	t := newTrust(own, nil)
	if err := t.chain(leaf, x509.ExtKeyUsageClientAuth); err != nil {
		return no("its signer is not of this array: " + err.Error())
	}
	if t.dates(leaf, s.Made) != nil {
		return no("its signer's certificate was not valid when it was made")
	}
	m, err := t.standing(leaf)
	if err != nil || m.Node != s.Primary || m.State != Active {
		return no("its signer is not the active member that it names")
	}
	b, err := s.signed()
	if err != nil {
		return no(err.Error())
	}
	if checkSignature(leaf, b, s.Peer) != nil {
		return no("the member's signature is wrong")
	}
	if s.Forced {
		return len(own.Recovery) == ed25519.PublicKeySize && ed25519.Verify(own.Recovery, b, s.Recovery), nil
	}
	if !slices.ContainsFunc(t.cas, func(c *x509.Certificate) bool { return checkSignature(c, b, s.Old) == nil }) {
		return no("no CA of this array has signed it")
	}
	return false, nil
}

// fingerprint of the new CA.
func (s Statement) fingerprint() wire.Fingerprint {
	c, err := s.ca()
	if err != nil {
		return wire.Fingerprint{}
	}
	return wire.FingerprintOf(c)
}

// makeRecoveryKey writes a new recovery key to a file that does not exist yet, and
// gives its public half.
func makeRecoveryKey(path string) (ed25519.PublicKey, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing the recovery key: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("writing the recovery key: %w", err)
	}
	return pub, nil
}

// recoveryKey reads what makeRecoveryKey wrote.
func recoveryKey(text secret.Secret) (crypto.Signer, error) {
	block, _ := pem.Decode(text.Bytes())
	if block == nil {
		return nil, errors.New("recovery key: it is no PEM text")
	}
	defer clear(block.Bytes)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("recovery key: it is no PKCS#8 key")
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("recovery key: it is not Ed25519")
	}
	return key, nil
}
