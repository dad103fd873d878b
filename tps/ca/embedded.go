package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"inkan/tps/token"
)

// Config describes an [Embedded] authority.
type Config struct {
	Signer      crypto.Signer // private key of Certificate, in an HSM or a key file; safe for concurrent use
	Certificate []byte        // the authority's certificate, DER
	Chain       [][]byte      // certificates above it, DER, nearest first; empty = Certificate is the root
	Store       Store
	// Generation of the key, which tells the addresses of its list and certificate
	// from those of the others; 0 and 1 = the first, whose addresses have no number.
	Generation int

	// BaseURL is where Handler is reachable, such as http://ca.example; it stands in
	// every certificate as CRL distribution point, OCSP and issuer address. Empty = none
	// of them.
	BaseURL string
	// SubjectBase is what comes before CN and UID in the subject of a person: country,
	// organization and the like.
	SubjectBase pkix.Name
	Profiles    []CertProfile // in addition to ShippedProfiles, or instead of one of the same name
	CRLLifetime time.Duration // from this update to next update; 0 = 24 h
	// OCSPLifetime is the same for OCSP responses: for how long clients may go on
	// with an answer; 0 = 1 h.
	OCSPLifetime time.Duration
	SignTimeout  time.Duration    // longest wait for Signer; 0 = 10 s
	Now          func() time.Time // nil = time.Now
}

// Embedded is the certificate authority inside a node. It is safe for concurrent
// use, and several of them, in one process or in many, may share one key and one
// [Store].
type Embedded struct {
	cfg      Config
	cert     *x509.Certificate
	keyBits  []byte // public key as it stands in SubjectPublicKeyInfo
	profiles map[string]CertProfile
	crlURL   []string // CRL distribution points of issued certificates
	certURL  []string // caIssuers of issued certificates
	ocspURL  []string // OCSP responder of issued certificates
	suffix   string   // of the paths of list and certificate: "" or /2, /3, …

	probe struct { // last successful trial signature of Ready
		sync.Mutex
		at time.Time
	}
	crl struct { // what CRL returned last
		sync.Mutex
		latest  CRL
		checked time.Time   // when the store was last asked
		stale   atomic.Bool // a revocation was changed here: ask again
	}
	ocsp ocspState
}

var _ Authority = (*Embedded)(nil)

// backdate is how long before its issuance a certificate is valid, for clocks that are behind.
const backdate = 5 * time.Minute

// Open returns the authority of cfg. It checks that the certificate is an
// authority's and belongs to the signer; it asks neither signer nor store for anything.
func Open(cfg Config) (*Embedded, error) {
	if cfg.Signer == nil || cfg.Store == nil {
		return nil, errors.New("opening the certificate authority: no signer or no store")
	}
	cert, err := x509.ParseCertificate(cfg.Certificate)
	if err != nil {
		return nil, fmt.Errorf("opening the certificate authority: decoding its certificate: %w", err)
	}
	if err := checkAuthority(cert, cfg.Signer.Public()); err != nil {
		return nil, fmt.Errorf("opening the certificate authority: %w", err)
	}
	profiles, err := profileTable(cfg.Profiles)
	if err != nil {
		return nil, fmt.Errorf("opening the certificate authority: %w", err)
	}
	for i, der := range cfg.Chain {
		if _, err := x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("opening the certificate authority: decoding certificate %d of its chain: %w", i+1, err)
		}
	}
	e := &Embedded{cfg: withDefaults(cfg), cert: cert, profiles: profiles}
	if cfg.Generation > 1 {
		e.suffix = "/" + strconv.Itoa(cfg.Generation)
	}
	if e.keyBits, err = publicKeyBits(cert); err != nil {
		return nil, fmt.Errorf("opening the certificate authority: %w", err)
	}
	if cfg.BaseURL != "" {
		if u, err := url.Parse(cfg.BaseURL); err != nil || u.Host == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("opening the certificate authority: base URL %q is not of the form http://host", cfg.BaseURL)
		}
		base := strings.TrimRight(cfg.BaseURL, "/")
		e.crlURL, e.certURL, e.ocspURL = []string{base + PathCRL + e.suffix}, []string{base + PathCertificate + e.suffix}, []string{base + PathOCSP}
	}
	return e, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CRLLifetime <= 0 {
		cfg.CRLLifetime = day
	}
	if cfg.OCSPLifetime <= 0 {
		cfg.OCSPLifetime = time.Hour
	}
	if cfg.SignTimeout <= 0 {
		cfg.SignTimeout = 10 * time.Second
	}
	return cfg
}

func checkAuthority(cert *x509.Certificate, pub crypto.PublicKey) error {
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("its certificate is not an authority's")
	case cert.KeyUsage&usage != usage:
		return errors.New("its certificate may not sign certificates and revocation lists")
	case len(cert.SubjectKeyId) == 0 || bytes.Equal(cert.RawSubject, []byte{0x30, 0}):
		return errors.New("its certificate has no subject or no subject key identifier")
	case !samePublicKey(cert.PublicKey, pub):
		return errors.New("its certificate belongs to another key than the signer's")
	}
	return nil
}

// Certificate returns the authority's own certificate, which is not to be changed.
func (e *Embedded) Certificate() *x509.Certificate { return e.cert }

// Issuer returns what the certificates of this authority name as their issuer.
func (e *Embedded) Issuer() Issuer {
	return Issuer{Name: bytes.Clone(e.cert.RawSubject), KeyID: bytes.Clone(e.cert.SubjectKeyId)}
}

// readyFor is how long a trial signature is taken as proof that the key is there.
const readyFor = 10 * time.Second

// Ready makes sure that the authority's certificate is valid, that the store
// answers and that the key signs (a trial signature at most every ten seconds).
func (e *Embedded) Ready(ctx context.Context) error {
	if err := e.checkValid(e.now()); err != nil {
		return err
	}
	if _, _, err := e.cfg.Store.LatestCRL(ctx); err != nil {
		return storeError("asking the store", err)
	}
	e.probe.Lock()
	defer e.probe.Unlock()
	if since := e.now().Sub(e.probe.at); since >= 0 && since < readyFor {
		return nil
	}
	digest := sha256.Sum256([]byte("trial signature of the authority's key"))
	_, err := e.await(ctx, func() ([]byte, error) {
		return e.cfg.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	})
	if err != nil {
		return fmt.Errorf("making a trial signature: %w", err)
	}
	e.probe.at = e.now()
	return nil
}

func (e *Embedded) checkValid(now time.Time) error {
	if now.Before(e.cert.NotBefore) || now.After(e.cert.NotAfter) {
		return fmt.Errorf("%w: its own certificate is valid from %s to %s", ErrUnavailable,
			e.cert.NotBefore.Format(time.DateOnly), e.cert.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// now is the present second, UTC.
func (e *Embedded) now() time.Time { return e.cfg.Now().UTC().Truncate(time.Second) }

// await runs something with the signer, which knows no context, and stops
// waiting for it when the context ends or the time is over. Its errors are
// ErrUnavailable, or the context's.
func (e *Embedded) await(ctx context.Context, sign func() ([]byte, error)) ([]byte, error) {
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := sign()
		done <- result{out, err}
	}()
	timer := time.NewTimer(e.cfg.SignTimeout)
	defer timer.Stop()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("%w: signing: %w", ErrUnavailable, r.err)
		}
		return r.out, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a signature: %w", context.Cause(ctx))
	case <-timer.C:
		return nil, fmt.Errorf("%w: no signature within %s", ErrUnavailable, e.cfg.SignTimeout)
	}
}

// storeError adds ErrUnavailable to what a store reports, except where the
// caller's context ended or the record is missing or changed.
func storeError(doing string, err error) error {
	for _, other := range []error{context.Canceled, context.DeadlineExceeded, token.ErrNotFound, token.ErrConflict} {
		if errors.Is(err, other) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}
