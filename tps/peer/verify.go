package peer

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/tps/wire"
)

// Why a peer was refused. A [*RefusedError] unwraps to one of them.
var (
	ErrNoCertificate    = errors.New("certificate required")
	ErrUnknownAuthority = errors.New("unknown authority")
	ErrNotYetValid      = errors.New("certificate is not valid yet")
	ErrExpired          = errors.New("certificate has expired")
	ErrOutsideDomains   = errors.New("name is outside what the array's CA may certify")
	ErrName             = errors.New("name mismatch")
	ErrUsage            = errors.New("not a peer certificate")
	ErrForeignArray     = errors.New("certificate of another array")
	ErrUnknownNode      = errors.New("no such member")
	ErrDetached         = errors.New("detached from the array")
	ErrRevoked          = errors.New("certificate is revoked")
	ErrMemberState      = errors.New("member is not active")
	ErrWrongNode        = errors.New("another member answered")
	ErrRole             = errors.New("role may not do this")
	ErrBadCertificate   = errors.New("bad certificate")
	// ErrNotAccepted: the other side refused this node's certificate.
	ErrNotAccepted = errors.New("certificate was not accepted")
)

// RefusedError is a peer, or this node, that was refused on a connection.
type RefusedError struct {
	Node   string // node id that the certificate names, if any
	Name   string // DNS name that it names
	Detail string // what was found and what was expected
	Err    error  // one of the values above
}

func (e *RefusedError) Error() string {
	who := e.Name
	if who == "" {
		who = "unknown"
	}
	if e.Node != "" {
		who += " (" + e.Node + ")"
	}
	return fmt.Sprintf("peer %s: %v: %s", who, e.Err, e.Detail)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// trust is what certificates of peers are verified with: one state, ready to use.
type trust struct {
	state   State
	roots   *x509.CertPool
	cas     []*x509.Certificate
	skewed  func(leaf *x509.Certificate, by time.Duration) // a date within the tolerance was let pass
	revoked map[string]bool
}

func newTrust(s State, skewed func(*x509.Certificate, time.Duration)) *trust {
	t := &trust{state: s, roots: x509.NewCertPool(), cas: s.trusted(), skewed: skewed, revoked: map[string]bool{}}
	for _, c := range t.cas {
		t.roots.AddCert(c)
	}
	for _, r := range s.Revoked {
		t.revoked[r.Serial] = true
	}
	return t
}

// verify checks a chain that a peer has shown (B2.2) and says which member it is.
func (t *trust) verify(chain []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) (Member, error) {
	if len(chain) == 0 {
		return Member{}, &RefusedError{Err: ErrNoCertificate, Detail: "the other side sent none"}
	}
	leaf := chain[0]
	if err := t.chain(leaf, use); err != nil {
		return Member{}, refuse(leaf, reason(err), "%s", t.explain(chain, err))
	}
	if err := t.dates(leaf, now); err != nil {
		return Member{}, refuse(leaf, err, "valid from %s to %s, and it is %s", stamp(leaf.NotBefore), stamp(leaf.NotAfter), stamp(now))
	}
	return t.standing(leaf)
}

// standing says which member a certificate is of, whose signature and dates have been
// verified when the connection began.
func (t *trust) standing(leaf *x509.Certificate) (Member, error) {
	array, node := identityOf(leaf)
	if array != t.state.ID {
		return Member{}, refuse(leaf, ErrForeignArray, "it is for array %q, this is %s", array, t.state.ID)
	}
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, peerUsage.Equal) {
		return Member{}, refuse(leaf, ErrUsage, "the extended key usage %v is missing", peerUsage)
	}
	m, ok := t.state.Member(node)
	if !ok {
		if d, was := t.state.departed(node); was {
			return Member{}, refuse(leaf, ErrDetached, "since %s (%s); join again with an invite", stamp(d.At), d.Reason)
		}
		return Member{}, refuse(leaf, ErrUnknownNode, "epoch %d does not have it", t.state.Epoch)
	}
	if t.revoked[serialText(leaf)] {
		return Member{}, refuse(leaf, ErrRevoked, "serial %s", serialText(leaf))
	}
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != m.Name {
		return Member{}, refuse(leaf, ErrName, "the member is called %s; detach it and join again", m.Name)
	}
	if m.State == Lost {
		return Member{}, refuse(leaf, ErrMemberState, "it is %s; join again with an invite", m.State)
	}
	return m, nil
}

func refuse(leaf *x509.Certificate, err error, format string, args ...any) error {
	_, node := identityOf(leaf)
	return &RefusedError{Node: node, Name: strings.Join(leaf.DNSNames, ","), Err: err, Detail: fmt.Sprintf(format, args...)}
}

// chain verifies signatures, usages and constraints at a moment at which the leaf is
// valid: dates are looked at apart, with their tolerance.
func (t *trust) chain(leaf *x509.Certificate, use x509.ExtKeyUsage) error {
	return verifyAt(leaf, t.roots, use)
}

func verifyAt(leaf *x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage) error {
	// crypto/x509 refuses every URI without a host below a CA with constraints of
	// whatever kind. Ours constrains no URIs (RFC 5280 §4.2.1.10), and standing reads it.
	plain := *leaf
	plain.URIs = nil
	_, err := plain.Verify(x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(),
		CurrentTime: leaf.NotAfter, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// dates allows a difference of clocks of one minute, and says when it was needed.
func (t *trust) dates(leaf *x509.Certificate, now time.Time) error {
	var by time.Duration
	switch {
	case now.Before(leaf.NotBefore):
		if by = leaf.NotBefore.Sub(now); by > skew {
			return ErrNotYetValid
		}
	case now.After(leaf.NotAfter):
		if by = now.Sub(leaf.NotAfter); by > skew {
			return ErrExpired
		}
	default:
		return nil
	}
	if t.skewed != nil {
		t.skewed(leaf, by)
	}
	return nil
}

func reason(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return ErrUnknownAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName:
		return ErrOutsideDomains
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return ErrUsage
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ErrExpired // the CA itself: the leaf's dates are looked at apart
	}
	return ErrBadCertificate
}

// explain names the CA that the peer's certificate is of, and the own ones.
func (t *trust) explain(chain []*x509.Certificate, err error) string {
	if !errors.Is(reason(err), ErrUnknownAuthority) {
		return err.Error()
	}
	theirs := "issuer " + chain[0].Issuer.String()
	for _, c := range chain[1:] {
		if bytes.Equal(c.RawSubject, chain[0].RawIssuer) {
			theirs += " " + wire.FingerprintOf(c).String()
		}
	}
	var ours []string
	for _, c := range t.cas {
		ours = append(ours, c.Subject.CommonName+" "+wire.FingerprintOf(c).String())
	}
	return fmt.Sprintf("%s; trusted at epoch %d: %s", theirs, t.state.Epoch, strings.Join(ours, ", "))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
