package peer

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"inkan/tps/wire"
)

// Limits of an array. They bound what a node accepts from another one.
const (
	MaxMembers   = 64
	maxState     = 2 << 20 // bytes of a state with its documents, as JSON
	maxDocuments = 1 << 20 // bytes of all documents together
	maxDeparted  = 256
	maxRevoked   = 4096
	maxIssued    = 8 // certificates remembered per member
)

// MemberState is where a member is in its life in the array.
type MemberState string

// The states. Detached nodes are no members: they stand in [State.Removed].
const (
	Joining  MemberState = "joining"  // has its certificate, has not reported the state yet
	Active   MemberState = "active"   // serves and calls
	Draining MemberState = "draining" // being detached: ends what it has begun, takes nothing new
	Lost     MemberState = "lost"     // all its certificates have expired; it joins again or is detached
	Detached MemberState = "detached" // no longer a member
)

// State is the array as every member knows it, one document that only the primary
// changes. Each change has an epoch of its own.
type State struct {
	Format    int               `json:"format"` // 1
	ID        string            `json:"id"`     // UUID
	Name      string            `json:"name"`
	Epoch     uint64            `json:"epoch"`
	Primary   string            `json:"primary"`     // node id
	Members   []Member          `json:"members"`     // by node id
	CAs       []Authority       `json:"cas"`         // by epoch
	Revoked   []Revocation      `json:"revocations"` // by serial
	Removed   []Departed        `json:"removed"`     // the latest last
	Domains   []string          `json:"domains"`     // the DNS domains that the next CA may certify names in
	Documents map[string]string `json:"documents"`   // name to SHA-256 in hex, of what is replicated
	// Recovery is the public half (Ed25519) of the offline recovery key, if one was made.
	Recovery []byte `json:"recovery,omitempty"`
	// Promotion is the latest promotion: proof of who the primary is.
	Promotion *Statement `json:"promotion,omitempty"`
}

// Member is a node of the array.
type Member struct {
	Node         string      `json:"node"`    // UUID, new with every join
	Name         string      `json:"name"`    // peer DNS name: the one that its certificate is for
	Address      string      `json:"address"` // host:port where it serves its peers
	Roles        []Role      `json:"roles"`
	Version      string      `json:"version"`
	Joined       time.Time   `json:"joined"`
	State        MemberState `json:"state"`
	Certificates []Issued    `json:"certificates"` // unexpired, the latest last
}

// Has says whether the member has a role.
func (m Member) Has(r Role) bool { return slices.Contains(m.Roles, r) }

// URL is the base address for calls to the member through [Node.Client].
func (m Member) URL() string {
	_, port, _ := net.SplitHostPort(m.Address)
	return "https://" + net.JoinHostPort(m.Name, port)
}

// Issued is a certificate that a CA of the array has issued.
type Issued struct {
	Serial   string    `json:"serial"` // hex
	SPKI     string    `json:"spki"`   // SHA-256 of the SubjectPublicKeyInfo, hex
	CA       uint64    `json:"ca"`     // epoch of the CA that issued it
	NotAfter time.Time `json:"not_after"`
}

// CARole is what a CA of the array is for at the moment.
type CARole string

// A pending CA is trusted and issues nothing yet; the current one issues; a retiring
// one is trusted until every member has a certificate of the current one.
const (
	PendingCA  CARole = "pending"
	CurrentCA  CARole = "current"
	RetiringCA CARole = "retiring"
)

// Authority is a CA of the array.
type Authority struct {
	Epoch       uint64    `json:"epoch"` // in which it was made; names its key
	Role        CARole    `json:"role"`
	Holder      string    `json:"holder"` // node id of the member that has its key
	Since       time.Time `json:"since"`  // in this role
	Certificate []byte    `json:"certificate"`
}

// Parse decodes the certificate.
func (a Authority) Parse() (*x509.Certificate, error) { return x509.ParseCertificate(a.Certificate) }

// Revocation is a certificate that is refused although it has not expired.
type Revocation struct {
	Serial string    `json:"serial"`
	CA     uint64    `json:"ca"`
	Node   string    `json:"node"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"` // the certificate's own end
}

// Departed is a node that was a member.
type Departed struct {
	Node   string    `json:"node"`
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Epoch  uint64    `json:"epoch"`
	Reason string    `json:"reason"`
}

// Member finds a member by its node id.
func (s State) Member(node string) (Member, bool) {
	for _, m := range s.Members {
		if m.Node == node {
			return m, true
		}
	}
	return Member{}, false
}

func (s State) named(name string) (Member, bool) {
	for _, m := range s.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// CA finds the first CA in a role.
func (s State) CA(r CARole) (Authority, bool) {
	for _, a := range s.CAs {
		if a.Role == r {
			return a, true
		}
	}
	return Authority{}, false
}

// changing says whether a change of the CA is under way.
func (s State) changing() bool { return len(s.CAs) != 1 }

// Hash is the SHA-256, in hex, of the canonical JSON of members, CAs, revocations and
// epoch: equal on two nodes that trust the same peers.
func (s State) Hash() string {
	b, err := canonical(struct {
		Members []Member     `json:"members"`
		CAs     []Authority  `json:"cas"`
		Revoked []Revocation `json:"revocations"`
		Epoch   uint64       `json:"epoch"`
	}{s.Members, s.CAs, s.Revoked, s.Epoch})
	if err != nil {
		return "" // a checked state has a canonical form
	}
	return hashHex(b)
}

// ParseState decodes a state: strictly, in its canonical form, and checked.
func ParseState(b []byte) (State, error) {
	var s State
	if len(b) > maxState {
		return s, fmt.Errorf("array state of more than %d bytes", maxState)
	}
	if err := strict(b, &s); err != nil {
		return State{}, fmt.Errorf("decoding array state: %w", err)
	}
	c, err := canonical(s)
	if err != nil || !bytes.Equal(c, b) {
		return State{}, errors.New("array state is not in its canonical form")
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("array state: %w", err)
	}
	return s, nil
}

// normal puts lists into the order that the canonical form has, forgets what has
// expired, and has no empty list be null.
func (s *State) normal(now time.Time) {
	for i := range s.Members {
		m := &s.Members[i]
		m.Certificates = slices.DeleteFunc(m.Certificates, func(c Issued) bool { return now.After(c.NotAfter.Add(time.Hour)) })
		if n := len(m.Certificates); n > maxIssued {
			m.Certificates = m.Certificates[n-maxIssued:]
		}
		m.Certificates, m.Roles = list(m.Certificates), list(m.Roles)
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	slices.SortFunc(s.CAs, func(a, b Authority) int { return cmp.Compare(a.Epoch, b.Epoch) })
	s.Revoked = slices.DeleteFunc(s.Revoked, func(r Revocation) bool { return now.After(r.Until.Add(time.Hour)) })
	slices.SortFunc(s.Revoked, func(a, b Revocation) int { return cmp.Compare(a.Serial, b.Serial) })
	if n := len(s.Removed); n > maxDeparted {
		s.Removed = s.Removed[n-maxDeparted:]
	}
	s.Revoked, s.Removed = list(s.Revoked), list(s.Removed)
	if s.Documents == nil {
		s.Documents = map[string]string{}
	}
	slices.Sort(s.Domains)
	s.Domains = slices.Compact(s.Domains)
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// update changes one member.
func (s *State) update(node string, f func(*Member)) {
	for i := range s.Members {
		if s.Members[i].Node == node {
			f(&s.Members[i])
		}
	}
}

// remove takes a member out and revokes what it has.
func (s *State) remove(node, reason string, now time.Time) {
	m, ok := s.Member(node)
	if !ok {
		return
	}
	for _, c := range m.Certificates {
		s.Revoked = append(s.Revoked, Revocation{Serial: c.Serial, CA: c.CA, Node: node, At: now, Until: c.NotAfter})
	}
	s.Members = slices.DeleteFunc(s.Members, func(m Member) bool { return m.Node == node })
	s.Removed = append(s.Removed, Departed{Node: node, Name: m.Name, At: now, Epoch: s.Epoch, Reason: reason})
}

// departed finds a node that was a member.
func (s State) departed(node string) (Departed, bool) {
	for _, d := range slices.Backward(s.Removed) {
		if d.Node == node {
			return d, true
		}
	}
	return Departed{}, false
}

// trusted are the CAs' certificates.
func (s State) trusted() []*x509.Certificate {
	var cs []*x509.Certificate
	for _, a := range s.CAs {
		if c, err := a.Parse(); err == nil {
			cs = append(cs, c)
		}
	}
	return cs
}

// fingerprints of the CAs, as one sorted text.
func (s State) fingerprints() []string {
	var fs []string
	for _, c := range s.trusted() {
		fs = append(fs, wire.FingerprintOf(c).String())
	}
	slices.Sort(fs)
	return fs
}
