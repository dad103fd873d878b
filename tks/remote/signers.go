package remote

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// Paths of the calls for key pairs.
const (
	pathFind     = "signer/find"
	pathSign     = "signer/sign"
	pathGenerate = "signer/generate"
	pathImport   = "signer/import"
	pathDestroy  = "signer/destroy"
)

// generateTimeout is how long a node may take to make a key pair: RSA keys of 4096
// bits take an HSM a minute.
const generateTimeout = 2 * time.Minute

// Signers are the key pairs of other nodes: those of the authority to sign
// with, those of the realm to make and destroy too. It implements hsm.Signers.
//
// A key pair that a node does not have is looked for at the others, so nodes may have
// HSMs of their own. One that is made is then at one node only, and gone with it:
// nodes that share an HSM, or its content, do not have that problem. A key pair is
// destroyed everywhere or the call fails.
type Signers struct{ pool *pool }

var _ hsm.Signers = (*Signers)(nil)

// Signers returns the key pairs of the client's nodes.
func (c *Client) Signers() *Signers { return &Signers{c.pool} }

// Reach reports whether there is a node that could have a key pair of that label for
// others.
func (s *Signers) Reach(l hsm.SignerLabel) bool {
	m := labelled{l}
	return len(s.pool.cfg.Nodes()) > 0 && m.within(authorityPrefix, realmPrefix) == nil
}

// labelled names a key pair.
type labelled struct {
	Label hsm.SignerLabel `json:"label"`
}

func (m *labelled) about() subject { return subject{label: printable(string(m.Label))} }
func (*labelled) wipe()            {}

type publicReply struct {
	PublicKey hexBytes `json:"public_key"` // SubjectPublicKeyInfo (RFC 5280 §4.1)
}

func (publicReply) wipe() {}

// key is the public key, if it is one that signers have.
func (r publicReply) key() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, errors.New("no public key")
	}
	_, err = hsm.AlgorithmOf(pub)
	return pub, err
}

func (r publicReply) check() error {
	_, err := r.key()
	return err
}

type signRequest struct {
	labelled
	ID     hexBytes `json:"key_id"` // hsm.PublicKeyID: the label may be another key's at another node
	Digest hexBytes `json:"digest"` // Ed25519: the message
	Hash   string   `json:"hash"`   // SHA-256, SHA-384, SHA-512; empty for Ed25519
	// Padding of RSA keys: empty for PKCS #1 v1.5, pss with the length of the salt as
	// rsa.PSSOptions has it.
	Padding    string `json:"padding,omitempty"`
	SaltLength int    `json:"salt_length,omitempty"`
}

const paddingPSS = "pss"

// hashes are those that hsm.CheckDigest lets pass.
var hashes = map[string]crypto.Hash{
	"": 0, crypto.SHA256.String(): crypto.SHA256, crypto.SHA384.String(): crypto.SHA384, crypto.SHA512.String(): crypto.SHA512,
}

// options are what the signature is to be.
func (m *signRequest) options() (crypto.SignerOpts, error) {
	h, ok := hashes[m.Hash]
	switch {
	case !ok:
		return nil, fmt.Errorf("hash %.20q: want SHA-256, SHA-384, SHA-512 or none: %w", m.Hash, ErrRequest)
	case m.Padding == paddingPSS:
		return &rsa.PSSOptions{SaltLength: m.SaltLength, Hash: h}, nil
	case m.Padding != "":
		return nil, fmt.Errorf("padding %.20q: want pss or none: %w", m.Padding, ErrRequest)
	}
	return h, nil
}

type signReply struct {
	Signature hexBytes `json:"signature"`
}

func (signReply) wipe() {}

func (r signReply) check() error {
	if len(r.Signature) == 0 {
		return errors.New("no signature")
	}
	return nil
}

type generateRequest struct {
	labelled
	Algorithm hsm.Algorithm `json:"algorithm"`
}

type importRequest struct {
	labelled
	Key hexSecret `json:"key"` // PKCS #8 (RFC 5208)
}

func (m *importRequest) wipe() { m.Key.Wipe() }

type emptyReply struct{}

func (emptyReply) wipe() {}

// elsewhere reports whether another node may have what this one has not.
func elsewhere(err error) bool { return errors.Is(err, hsm.ErrNotFound) }

// Signer implements hsm.Signers. What it returns waits for each node up to
// Config.CallTimeout.
func (s *Signers) Signer(ctx context.Context, l hsm.SignerLabel) (crypto.Signer, error) {
	body, err := encode(labelled{l})
	if err != nil {
		return nil, err
	}
	r, err := ask(ctx, s.pool, pathFind, body, how{passing: elsewhere}, publicReply.check)
	if err != nil {
		return nil, fmt.Errorf("finding key pair %s: %w", l, err)
	}
	return s.signer(l, r)
}

func (s *Signers) signer(l hsm.SignerLabel, r publicReply) (crypto.Signer, error) {
	pub, err := r.key()
	if err != nil {
		return nil, err
	}
	id, err := hsm.PublicKeyID(pub)
	if err != nil {
		return nil, err
	}
	return &signer{pool: s.pool, label: l, pub: pub, id: id}, nil
}

// GenerateSigner implements hsm.Signers.
func (s *Signers) GenerateSigner(ctx context.Context, l hsm.SignerLabel, a hsm.Algorithm) (crypto.Signer, error) {
	body, err := encode(generateRequest{labelled{l}, a})
	if err != nil {
		return nil, err
	}
	return s.make(ctx, l, pathGenerate, body)
}

// ImportSigner implements hsm.Signers.
func (s *Signers) ImportSigner(ctx context.Context, l hsm.SignerLabel, key crypto.Signer) (crypto.Signer, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("importing key pair %s: %w", l, err)
	}
	defer clear(der)
	body, err := encode(labelled{l}, part{"key", secret.New(der)})
	if err != nil {
		return nil, err
	}
	return s.make(ctx, l, pathImport, body)
}

// make has a key pair made, at one node.
func (s *Signers) make(ctx context.Context, l hsm.SignerLabel, path string, body []byte) (crypto.Signer, error) {
	r, err := ask(ctx, s.pool, path, body, how{once: true, timeout: generateTimeout}, publicReply.check)
	if err != nil {
		return nil, fmt.Errorf("making key pair %s: %w", l, err)
	}
	return s.signer(l, r)
}

// DestroySigner implements hsm.Signers: at every node. It fails where one of them
// cannot be asked; asking again ends it there.
func (s *Signers) DestroySigner(ctx context.Context, l hsm.SignerLabel) error {
	body, err := encode(labelled{l})
	if err != nil {
		return err
	}
	destroyed, missing := false, error(nil)
	var absent []string
	nodes := s.pool.order()
	for _, n := range nodes {
		err := s.pool.at(ctx, n, s.pool.cfg.CallTimeout, func(ctx context.Context, n Node) error {
			return post(ctx, n, pathDestroy, body, how{}, func(b []byte) error { return decode(b, &emptyReply{}) })
		})
		var gone *lost
		switch {
		case err == nil:
			destroyed = true
		case errors.Is(err, hsm.ErrNotFound):
			missing = err
		case errors.As(err, &gone):
			absent = append(absent, gone.Error())
		default:
			return fmt.Errorf("destroying key pair %s: %w", l, err)
		}
	}
	switch {
	case len(absent) > 0 || len(nodes) == 0:
		return fmt.Errorf("destroying key pair %s everywhere: %w", l, unavailable(absent))
	case !destroyed:
		return fmt.Errorf("destroying key pair: %w", missing)
	}
	return nil
}

// signer is a key pair of other nodes. It implements crypto.Signer.
type signer struct {
	pool  *pool
	label hsm.SignerLabel
	pub   crypto.PublicKey
	id    []byte
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.pub }

// Sign implements crypto.Signer. The randomness is the other node's.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := hsm.CheckDigest(s.pub, digest, opts); err != nil {
		return nil, err
	}
	m := signRequest{labelled: labelled{s.label}, ID: s.id, Digest: digest}
	if h := opts.HashFunc(); h != 0 {
		m.Hash = h.String()
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		m.Padding, m.SaltLength = paddingPSS, pss.SaltLength
	}
	body, err := encode(m)
	if err != nil {
		return nil, err
	}
	r, err := ask(context.Background(), s.pool, pathSign, body, how{passing: elsewhere}, signReply.check)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", s.label, err)
	}
	return r.Signature, nil
}
