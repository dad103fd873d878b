//go:build cgo && !windows

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// signer is a key pair of the token, found again by its label on every connection.
type signer struct {
	t     *Token
	label hsm.SignerLabel
	pub   crypto.PublicKey
}

// Public implements crypto.Signer.
func (g *signer) Public() crypto.PublicKey { return g.pub }

// Sign implements crypto.Signer. A connection that died is made again once.
func (g *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := hsm.CheckDigest(g.pub, digest, opts); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*g.t.cfg.OpTimeout)
	defer cancel()
	sig, err := g.sign(ctx, digest, opts)
	if errors.Is(err, hsm.ErrUnavailable) {
		sig, err = g.sign(ctx, digest, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", g.label, err)
	}
	return sig, nil
}

func (g *signer) sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s, err := g.t.borrow(ctx)
	if err != nil {
		return nil, err
	}
	defer s.giveBack()
	key, err := s.privateKey(ctx, g.label)
	if err != nil {
		return nil, err
	}
	m, param, msg, err := mechanismFor(g.pub, digest, opts)
	if err != nil {
		return nil, err
	}
	sig, err := do(ctx, s, "signing", func(r raw) ([]byte, error) {
		sig, err := r.sign(m, param, key, msg)
		if isRV(err, p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID) {
			err = &hsm.MechanismError{Token: s.c.name(), Operation: "sign with " + string(g.label), Candidates: []hsm.Candidate{candidate(m, err)}}
		}
		return sig, err
	})
	if err != nil {
		return nil, err
	}
	if _, ok := g.pub.(*ecdsa.PublicKey); ok {
		return ecdsaASN1(sig)
	}
	return sig, nil
}

// hashParams are hash mechanism and mask generation function of PSS, and the
// DigestInfo prefix of PKCS #1 v1.5 (RFC 8017 §9.2 note 1).
var hashParams = map[crypto.Hash]struct {
	mech, mgf uint
	prefix    []byte
}{
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256, []byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}},
	crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384, []byte{0x30, 0x41, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}},
	crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512, []byte{0x30, 0x51, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}},
}

// mechanismFor chooses the mechanism; all of them take the digest, so that no hash
// mechanism of the token is needed.
func mechanismFor(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (mech uint, param, msg []byte, err error) {
	h := hashParams[opts.HashFunc()]
	switch pub.(type) {
	case *ecdsa.PublicKey:
		return p11.CKM_ECDSA, nil, digest, nil
	case ed25519.PublicKey:
		return ckmEdDSA, nil, digest, nil
	case *rsa.PublicKey:
		pss, ok := opts.(*rsa.PSSOptions)
		if !ok {
			return p11.CKM_RSA_PKCS, nil, append(append([]byte(nil), h.prefix...), digest...), nil
		}
		salt := pss.SaltLength
		if salt <= 0 { // "auto" may be any length when signing
			salt = len(digest)
		}
		return p11.CKM_RSA_PKCS_PSS, p11.NewPSSParams(h.mech, h.mgf, uint(salt)), digest, nil
	}
	return 0, nil, nil, fmt.Errorf("no way to sign with a %T", pub)
}

// ecdsaASN1 turns r ‖ s into the DER that X.509 has.
func ecdsaASN1(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("ECDSA signature of %d bytes", len(raw))
	}
	n := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
}

// privateKey finds the handle of a private key once per connection.
func (s *session) privateKey(ctx context.Context, l hsm.SignerLabel) (p11.ObjectHandle, error) {
	s.c.mu.Lock()
	o, ok := s.c.private[l]
	s.c.mu.Unlock()
	if ok {
		return o, nil
	}
	found, err := do(ctx, s, "finding a private key", func(r raw) ([]p11.ObjectHandle, error) {
		return r.find(1, attr(p11.CKA_CLASS, uint(p11.CKO_PRIVATE_KEY)), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, string(l)))
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l, err)
	}
	if len(found) == 0 {
		return 0, s.notFound(ctx, string(l))
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.private[l] = found[0]
	return found[0], nil
}

// Signer implements hsm.Signers.
func (t *Token) Signer(ctx context.Context, l hsm.SignerLabel) (crypto.Signer, error) {
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding key pair %s: %w", l, err)
	}
	defer s.giveBack()
	private, err := s.privateKey(ctx, l)
	if err != nil {
		return nil, err
	}
	pub, err := do(ctx, s, "reading the public key of "+string(l), func(r raw) (crypto.PublicKey, error) {
		return r.publicKey(private, l)
	})
	if err != nil {
		return nil, err
	}
	return &signer{t: t, label: l, pub: pub}, nil
}

// GenerateSigner implements hsm.Signers.
func (t *Token) GenerateSigner(ctx context.Context, l hsm.SignerLabel, a hsm.Algorithm) (crypto.Signer, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	if !a.Valid() {
		return nil, fmt.Errorf("generating key pair: no such algorithm: %q", string(a))
	}
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	defer s.giveBack()
	pub, err := do(ctx, s, "generating key pair", func(r raw) (crypto.PublicKey, error) { return s.c.generatePair(r, l, a) })
	if err != nil {
		return nil, err
	}
	return &signer{t: t, label: l, pub: pub}, nil
}

func (c *conn) generatePair(r raw, l hsm.SignerLabel, a hsm.Algorithm) (crypto.PublicKey, error) {
	before, err := r.find(maxObjects, attr(p11.CKA_LABEL, string(l)))
	if err != nil {
		return nil, err
	}
	if len(before) > 0 {
		return nil, fmt.Errorf("%s: %w", l, hsm.ErrExists)
	}
	m, public, private := pairTemplates(l, a)
	pubObject, privObject, err := r.c.GenerateKeyPair(r.h, mech(m, nil), public, private)
	if isRV(err, p11.CKR_MECHANISM_INVALID, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_CURVE_NOT_SUPPORTED) {
		return nil, &hsm.MechanismError{Token: c.name(), Operation: "generate a key pair " + string(a), Candidates: []hsm.Candidate{candidate(m, err)}}
	}
	if err != nil {
		return nil, err
	}
	pub, err := r.name(pubObject, privObject, l)
	if err != nil {
		return nil, errors.Join(err, r.c.DestroyObject(r.h, pubObject), r.c.DestroyObject(r.h, privObject))
	}
	return pub, nil
}

// name gives both halves their CKA_ID, which is known only now.
func (r raw) name(pubObject, privObject p11.ObjectHandle, l hsm.SignerLabel) (crypto.PublicKey, error) {
	pub, err := r.publicKey(privObject, l)
	if err != nil {
		return nil, err
	}
	id, err := hsm.PublicKeyID(pub)
	if err != nil {
		return nil, err
	}
	for _, o := range []p11.ObjectHandle{pubObject, privObject} {
		if err := r.c.SetAttributeValue(r.h, o, []*p11.Attribute{attr(p11.CKA_ID, id)}); err != nil {
			return nil, err
		}
	}
	return pub, nil
}

// curves are the named curves by their DER object identifier.
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2B\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2B\x81\x04\x00\x23":             elliptic.P521(),
}

func pairTemplates(l hsm.SignerLabel, a hsm.Algorithm) (mech uint, public, private []*p11.Attribute) {
	temporary := make([]byte, 20)
	rand.Read(temporary)
	public, private = halves(l, temporary)
	if n := a.Bits(); n > 0 {
		return p11.CKM_RSA_PKCS_KEY_PAIR_GEN, append(public, attr(p11.CKA_MODULUS_BITS, n), attr(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})), private
	}
	if a == hsm.Ed25519 {
		return ckmEdwardsKeyPairGen, append(public, attr(p11.CKA_EC_PARAMS, []byte(edwards25519))), private
	}
	for der, curve := range curves {
		if curve.Params().BitSize == map[hsm.Algorithm]int{hsm.P256: 256, hsm.P384: 384, hsm.P521: 521}[a] {
			public = append(public, attr(p11.CKA_EC_PARAMS, []byte(der)))
		}
	}
	return p11.CKM_EC_KEY_PAIR_GEN, public, private
}

// halves are the attributes that the two objects of every key pair have.
func halves(l hsm.SignerLabel, id []byte) (public, private []*p11.Attribute) {
	public = []*p11.Attribute{
		attr(p11.CKA_LABEL, string(l)), attr(p11.CKA_ID, id), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_VERIFY, true), attr(p11.CKA_ENCRYPT, false), attr(p11.CKA_WRAP, false),
	}
	private = []*p11.Attribute{
		attr(p11.CKA_LABEL, string(l)), attr(p11.CKA_ID, id), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_SIGN, true), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_UNWRAP, false), attr(p11.CKA_DERIVE, false),
	}
	return public, private
}

// publicKey reads the public half: of an RSA key out of the private object, of an
// EC key out of the public object of the same label.
func (r raw) publicKey(private p11.ObjectHandle, l hsm.SignerLabel) (crypto.PublicKey, error) {
	a, err := r.attributes(private, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	kt, err := ulong(a[p11.CKA_KEY_TYPE])
	if err != nil {
		return nil, err
	}
	switch kt {
	case p11.CKK_RSA:
		return r.rsaKey(private)
	case p11.CKK_EC, ckkEdwards:
		return r.ecKey(l)
	}
	return nil, fmt.Errorf("CKA_KEY_TYPE %X is neither RSA nor EC nor Edwards", kt)
}

func (r raw) rsaKey(o p11.ObjectHandle) (crypto.PublicKey, error) {
	a, err := r.attributes(o, p11.CKA_MODULUS, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	e := new(big.Int).SetBytes(a[p11.CKA_PUBLIC_EXPONENT])
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || len(a[p11.CKA_MODULUS]) == 0 {
		return nil, errors.New("RSA public key is not readable")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(a[p11.CKA_MODULUS]), E: int(e.Int64())}, nil
}

func (r raw) ecKey(l hsm.SignerLabel) (crypto.PublicKey, error) {
	found, err := r.find(1, attr(p11.CKA_CLASS, uint(p11.CKO_PUBLIC_KEY)), attr(p11.CKA_LABEL, string(l)))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the private key has no public key object of label %s beside it", l)
	}
	a, err := r.attributes(found[0], p11.CKA_EC_PARAMS, p11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	params := string(a[p11.CKA_EC_PARAMS])
	if params == edwards25519 || params == edwards25519OID {
		return parseEdwards(a[p11.CKA_EC_POINT])
	}
	curve, ok := curves[params]
	if !ok {
		return nil, fmt.Errorf("curve %X is not P-256, P-384, P-521 or Ed25519", a[p11.CKA_EC_PARAMS])
	}
	return parsePoint(curve, a[p11.CKA_EC_POINT])
}

// parsePoint reads 04 ‖ X ‖ Y, bare or in a DER OCTET STRING.
func parsePoint(curve elliptic.Curve, b []byte) (*ecdsa.PublicKey, error) {
	var inner []byte
	if rest, err := asn1.Unmarshal(b, &inner); err == nil && len(rest) == 0 {
		b = inner
	}
	k, err := ecdsa.ParseUncompressedPublicKey(curve, b)
	if err != nil {
		return nil, fmt.Errorf("reading an EC point: %w", err)
	}
	return k, nil
}
