package realm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"inkan/apdu/secret"
)

// NewKey says what key is wanted.
type NewKey struct {
	Name      string // default: algorithm and date
	Use       Use    // default: ForSessions
	Provider  Provider
	Algorithm Algorithm // default: ES256, or what the key of Material is usually used with
	Bits      int       // of a generated RSA key: 2048, 3072 (default), 4096
	Priority  int64
	Passive   bool // does not sign
	// Material is the PEM or key store of an uploaded key. It is not retained.
	Material secret.Secret
	// Certificates are PEM, that of the key first; none: one is made (PEM, PKCS11).
	Certificates []byte
	// KeyPassword opens an encrypted PEM key.
	// Alias, StorePassword and KeyPassword open a key store; a KeyPassword that is zero
	// is the StorePassword, an empty Alias the only key.
	Alias                      string
	StorePassword, KeyPassword secret.Secret
	// Label is that of a key pair in the HSM.
	Label string
	// AllowExpired takes a certificate that is not valid now.
	AllowExpired bool

	first       bool // no key of the use was there before
	predecessor ID
	pending     time.Time // when it takes over; zero: at once
}

// certificateLife is how long the certificates that a realm makes are good.
const certificateLife = 3 * 365 * 24 * time.Hour

// Add takes a key into the realm and lets it sign at once where it has the highest
// priority of its algorithm, unless Passive. It is tested before. by is who asks, for
// the audit record.
func (r *Realm) Add(ctx context.Context, n NewKey, by string) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Use == "" {
		n.Use = ForSessions
	}
	if err := r.intend(ctx, Key{Use: n.Use, Algorithm: n.Algorithm}, "add", by); err != nil {
		return Key{}, err
	}
	k, err := r.prepare(ctx, &n)
	if err != nil {
		return Key{}, r.record(ctx, k, "add", "", by, err)
	}
	ch := Change{Create: []Key{k}}
	if n.first {
		ch.First = n.Use
	}
	if err := r.write(ctx, ch); err != nil {
		err = r.unmade(ctx, k, fmt.Errorf("storing the realm key: %w", err))
		return Key{}, r.record(ctx, k, "add", "", by, err)
	}
	k.Revision = 1
	return k, r.record(ctx, k, "add", "", by, nil)
}

// prepare brings the private half into the vault and makes the record.
func (r *Realm) prepare(ctx context.Context, n *NewKey) (Key, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Key{}, err
	}
	now := r.now().UTC()
	k := Key{ID: ID(id.String()), Name: n.Name, Use: n.Use, Algorithm: n.Algorithm, Provider: n.Provider, Priority: n.Priority, State: Active, Node: r.holder(),
		Material: strings.ReplaceAll(id.String(), "-", ""), Created: now, Predecessor: n.predecessor}
	switch {
	case !n.pending.IsZero():
		k.State, k.ActivateAt = Pending, n.pending.UTC()
	case n.Passive:
		k.State, k.PassiveAt = Passive, now
	default:
		k.Activated = now
	}
	signer, chain, err := r.obtain(ctx, &k, n)
	if err != nil {
		return k, err
	}
	if k, err = r.finish(ctx, k, signer, chain, n); err != nil {
		return k, errors.Join(err, r.discard(ctx, k))
	}
	return k, nil
}

// obtain makes or takes the key pair.
func (r *Realm) obtain(ctx context.Context, k *Key, n *NewKey) (crypto.Signer, []*x509.Certificate, error) {
	certs, err := parseCertificates(n.Certificates)
	if err != nil {
		return nil, nil, err
	}
	switch n.Provider {
	case Generated:
		if k.Algorithm == "" {
			k.Algorithm = ES256
		}
		kind, err := kindFor(k.Algorithm, n.Bits)
		if err != nil {
			return nil, nil, err
		}
		if err := r.beginKey(ctx, *k); err != nil {
			return nil, nil, err
		}
		s, err := r.cfg.Vault.Generate(ctx, k.Material, kind)
		if err != nil {
			err = errors.Join(err, r.discard(ctx, *k))
		}
		return s, nil, err
	case PKCS11:
		if n.Label == "" {
			return nil, nil, fmt.Errorf("the label of the key in the HSM is needed: %w", ErrInput)
		}
		k.Material = n.Label
		s, err := r.cfg.Vault.Signer(ctx, n.Label)
		return s, certs, err
	case PEM:
		s, err := parsePrivateKey(n.Material.Bytes(), n.KeyPassword)
		return r.bringIn(ctx, k, s, certs, err)
	case Keystore:
		s, chain, err := openKeystore(n)
		if len(certs) == 0 {
			certs = chain
		}
		return r.bringIn(ctx, k, s, certs, err)
	}
	return nil, nil, fmt.Errorf("provider %q is none of generated, pem, java-keystore, pkcs11: %w", n.Provider, ErrInput)
}

// bringIn checks an uploaded key before the vault has it.
func (r *Realm) bringIn(ctx context.Context, k *Key, s crypto.Signer, certs []*x509.Certificate, err error) (crypto.Signer, []*x509.Certificate, error) {
	if err != nil {
		return nil, nil, err
	}
	if k.Algorithm == "" {
		k.Algorithm = usual(s.Public())
	}
	if err := k.Algorithm.fits(s.Public()); err != nil {
		return nil, nil, err
	}
	if err := r.beginKey(ctx, *k); err != nil {
		return nil, nil, err
	}
	if err := r.cfg.Vault.Import(ctx, k.Material, s); err != nil {
		return nil, nil, errors.Join(err, r.discard(ctx, *k))
	}
	stored, err := r.cfg.Vault.Signer(ctx, k.Material)
	if err != nil {
		return nil, nil, errors.Join(err, r.discard(ctx, *k))
	}
	return stored, certs, nil
}

// finish tests the key and describes its public half.
func (r *Realm) finish(ctx context.Context, k Key, signer crypto.Signer, chain []*x509.Certificate, n *NewKey) (Key, error) {
	if k.Algorithm == "" {
		k.Algorithm = usual(signer.Public())
	}
	if err := k.Algorithm.fits(signer.Public()); err != nil {
		return k, err
	}
	if err := selfTest(signer, k.Algorithm); err != nil {
		return k, err
	}
	var err error
	if k.Public, err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
		return k, err
	}
	k.KID = kidOf(k.Public)
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return k, err
	}
	if i := slices.IndexFunc(rec.Keys, func(o Key) bool { return o.KID == k.KID }); i >= 0 {
		return k, fmt.Errorf("that is the key %s already, %s: %w", rec.Keys[i].Name, rec.Keys[i].State, ErrRefused)
	}
	if k.Name == "" {
		k.Name = nameFor(k, rec.Keys)
	}
	if len(chain) > 0 {
		k.Chain, err = checkChain(chain, k.Public, k.Created, n.AllowExpired)
		return k, err
	}
	der, err := r.selfSigned(k, signer)
	k.Chain = [][]byte{der}
	return k, err
}

// nameFor is a name that no key has yet, of use, algorithm and time.
func nameFor(k Key, all []Key) string {
	base := strings.ToLower(string(k.Algorithm)) + "-" + k.Created.Format("20060102-150405")
	if k.Use != ForSessions {
		base = string(k.Use) + "-" + base
	}
	name := base
	for n := 2; slices.ContainsFunc(all, func(o Key) bool { return o.Name == name }); n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	return name
}

// discard takes a key that did not become one out of the vault.
func (r *Realm) discard(ctx context.Context, k Key) error {
	if k.Provider == PKCS11 || k.Material == "" {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if err := r.cfg.Vault.Destroy(ctx, k.Material); err != nil {
		return err
	}
	return r.cfg.Store.EndKey(ctx, k.Material)
}

// selfSigned makes the certificate of a key for clients that pin one.
func (r *Realm) selfSigned(k Key, signer crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.cfg.Name}, NotBefore: k.Created.Add(-time.Minute), NotAfter: k.Created.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if u, err := url.Parse(r.cfg.Issuer); err == nil && u.Hostname() != "" {
		t.DNSNames, t.URIs = []string{u.Hostname()}, []*url.URL{u}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of the realm key: %w", err)
	}
	return der, nil
}
