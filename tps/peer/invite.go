package peer

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/apdu/secret"
)

const (
	codeSize   = 16 // 128 bits
	maxInvites = 100
	maxTTL     = 7 * 24 * time.Hour
)

// invite lets one node join once. The code itself is not kept: ID finds the invite
// and Verifier, a hash of it, checks the proof.
type invite struct {
	ID       string    `json:"id"`
	Verifier []byte    `json:"verifier"`
	Name     string    `json:"name"`
	Roles    []Role    `json:"roles"`
	Expires  time.Time `json:"expires"`
	// Used is when, and Key and Node by whom: that node may ask again until it is active.
	Used time.Time `json:"used"`
	Key  string    `json:"key,omitempty"` // hash of its SubjectPublicKeyInfo
	Node string    `json:"node,omitempty"`
}

var codeText = base32.StdEncoding.WithPadding(base32.NoPadding)

// codeOf reads the code of an invite, with or without its dashes, either case.
func codeOf(text secret.Secret) (secret.Secret, error) {
	var letters []byte
	for _, b := range text.Bytes() {
		if b == '-' || b == ' ' || b == '\n' || b == '\r' || b == '\t' {
			continue
		}
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		letters = append(letters, b)
	}
	defer clear(letters)
	code := make([]byte, codeText.DecodedLen(len(letters)))
	n, err := codeText.Decode(code, letters)
	if err != nil || n != codeSize {
		clear(code)
		return secret.Secret{}, fmt.Errorf("%w: a code has 26 letters and digits (A to Z, 2 to 7)", ErrInvite)
	}
	return secret.New(code[:n]), nil
}

// marks are what is kept of a code.
func marks(code secret.Secret) (id string, verifier []byte) {
	h := sha256.New()
	h.Write([]byte("tms:invite:id"))
	h.Write(code.Bytes())
	id = hex.EncodeToString(h.Sum(nil)[:8])
	h.Reset()
	h.Write([]byte("tms:invite:verifier"))
	h.Write(code.Bytes())
	return id, h.Sum(nil)
}

// Invite lets one node of this name join once, with these roles, until ttl is over
// (0: one hour; at most a week). The code is shown this once and goes to the node's
// operator. It is good on this primary only, not on the next one. [ErrDomain] where the
// array's CA may not certify the name.
func (n *Node) Invite(name string, roles []Role, ttl time.Duration) (code secret.Secret, err error) {
	if ttl == 0 {
		ttl = time.Hour
	}
	if err := errors.Join(checkName(name), checkRoles(roles)); err != nil {
		return secret.Secret{}, fmt.Errorf("inviting a node: %w", err)
	}
	if ttl < time.Minute || ttl > maxTTL {
		return secret.Secret{}, fmt.Errorf("inviting a node: the invite would last %s, want 1 minute to 7 days", ttl)
	}
	v := n.view.Load()
	if err := v.ready(); err != nil {
		return secret.Secret{}, err
	}
	if !v.primary() {
		return secret.Secret{}, n.notPrimary()
	}
	if err := mayCertify(v.rec.State, name); err != nil {
		return secret.Secret{}, err
	}
	raw := secret.Random(codeSize)
	defer raw.Wipe()
	id, verifier := marks(raw)
	now := n.now()
	err = n.commit(func(r *record) error {
		// What is over stays a day, so that the answer can say why it is refused.
		r.Invites = slices.DeleteFunc(r.Invites, func(i invite) bool { return now.After(i.Expires.Add(24 * time.Hour)) })
		if len(r.Invites) >= maxInvites {
			return fmt.Errorf("inviting a node: %d invites are open or lately expired", len(r.Invites))
		}
		r.Invites = append(r.Invites, invite{ID: id, Verifier: verifier, Name: name, Roles: roles, Expires: now.Add(ttl)})
		return nil
	})
	if err != nil {
		return secret.Secret{}, err
	}
	text := make([]byte, codeText.EncodedLen(codeSize))
	codeText.Encode(text, raw.Bytes())
	defer clear(text)
	return secret.New(dashes(text)), nil
}

// dashes puts a dash after every fifth letter.
func dashes(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/5)
	for i, b := range text {
		if i > 0 && i%5 == 0 {
			out = append(out, '-')
		}
		out = append(out, b)
	}
	return out
}

// mayCertify says whether the current CA may issue for a name.
func mayCertify(s State, name string) error {
	a, _ := s.CA(CurrentCA)
	c, err := a.Parse()
	if err != nil {
		return err
	}
	if !within(name, c.PermittedDNSDomains) {
		return fmt.Errorf("%w: %s is not in %s; inkan array rotate-ca --domain adds another", ErrDomain, name, strings.Join(c.PermittedDNSDomains, ", "))
	}
	return nil
}

// notPrimary names the primary.
func (n *Node) notPrimary() error {
	s := n.view.Load().rec.State
	m, _ := s.Member(s.Primary)
	return fmt.Errorf("%w; it is %s, at %s", ErrNotPrimary, m.Name, m.Address)
}

// good says why an invite is not good for a request; with the key that used it, it is
// good again until its node is active.
func (i invite) good(q joinRequest, key string, s State, now time.Time) error {
	again := "ask the primary's operator for a new invite"
	if i.Name != q.Name {
		return fmt.Errorf("%w: it is for %s, not for %s; %s", ErrInvite, i.Name, q.Name, again)
	}
	if !i.Used.IsZero() {
		m, ok := s.Member(i.Node)
		if i.Key == key && ok && m.State == Joining {
			return nil
		}
		return fmt.Errorf("%w: it was used at %s; %s", ErrInvite, stamp(i.Used), again)
	}
	if now.After(i.Expires) {
		return fmt.Errorf("%w: it expired at %s; %s", ErrInvite, stamp(i.Expires), again)
	}
	if !sameRoles(i.Roles, q.Roles) {
		return fmt.Errorf("%w: it is for roles %v, the node has %v; %s", ErrInvite, i.Roles, q.Roles, again)
	}
	return nil
}

func sameRoles(a, b []Role) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
