package peer

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
)

var (
	idForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	nameForm = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)
	hexForm  = regexp.MustCompile(`^[0-9a-f]{1,64}$`)
)

func checkName(name string) error {
	if len(name) > 253 || !nameForm.MatchString(name) || net.ParseIP(name) != nil {
		return fmt.Errorf("%q is no DNS name in lower case", name)
	}
	return nil
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || port == "" || len(addr) > 300 {
		return fmt.Errorf("%q is no address of the form host:port", addr)
	}
	return nil
}

func checkText(what, s string) error {
	if s == "" || len(s) > 128 {
		return fmt.Errorf("%s has %d bytes, want 1 to 128", what, len(s))
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7F || r == 0xFFFD {
			return fmt.Errorf("%s has a control character", what)
		}
	}
	return nil
}

// check says what is wrong with a state whoever made it.
func (s State) check() error {
	if s.Format != 1 {
		return fmt.Errorf("format %d, this program knows 1", s.Format)
	}
	if !idForm.MatchString(s.ID) {
		return errors.New("malformed array id")
	}
	if s.Epoch == 0 || s.Epoch > 1<<53 {
		return errors.New("epoch out of range")
	}
	if err := checkText("array name", s.Name); err != nil {
		return err
	}
	if err := s.checkMembers(); err != nil {
		return err
	}
	if err := s.checkCAs(); err != nil {
		return err
	}
	if len(s.Revoked) > maxRevoked || len(s.Removed) > maxDeparted || len(s.Domains) == 0 || len(s.Domains) > MaxMembers || len(s.Documents) > MaxMembers {
		return errors.New("list out of bounds")
	}
	for _, r := range s.Revoked {
		if !hexForm.MatchString(r.Serial) {
			return errors.New("malformed serial of a revoked certificate")
		}
	}
	for _, d := range s.Domains {
		if err := checkName(d); err != nil {
			return err
		}
	}
	if len(s.Recovery) != 0 && len(s.Recovery) != 32 {
		return errors.New("malformed recovery key")
	}
	if s.Promotion != nil {
		return s.Promotion.check()
	}
	return nil
}

func (s State) checkMembers() error {
	if len(s.Members) == 0 || len(s.Members) > MaxMembers {
		return fmt.Errorf("%d members, want 1 to %d", len(s.Members), MaxMembers)
	}
	if _, ok := s.Member(s.Primary); !ok {
		return errors.New("the primary is no member")
	}
	names := map[string]bool{}
	for i, m := range s.Members {
		if !idForm.MatchString(m.Node) || i > 0 && s.Members[i-1].Node >= m.Node {
			return errors.New("malformed node id or order of members")
		}
		if names[m.Name] {
			return fmt.Errorf("two members are called %s", m.Name)
		}
		names[m.Name] = true
		if err := errors.Join(checkName(m.Name), checkAddress(m.Address), checkRoles(m.Roles), checkText("version", m.Version)); err != nil {
			return err
		}
		if !slices.Contains([]MemberState{Joining, Active, Draining, Lost}, m.State) {
			return fmt.Errorf("member %s has state %q", m.Name, m.State)
		}
		if len(m.Certificates) > maxIssued {
			return errors.New("list of certificates out of bounds")
		}
		for _, c := range m.Certificates {
			if !hexForm.MatchString(c.Serial) || !hexForm.MatchString(c.SPKI) {
				return errors.New("malformed serial or key hash of a certificate")
			}
		}
	}
	return nil
}

func (s State) checkCAs() error {
	if len(s.CAs) == 0 || len(s.CAs) > MaxMembers {
		return errors.New("number of CAs out of bounds")
	}
	count := map[CARole]int{}
	for i, a := range s.CAs {
		if i > 0 && s.CAs[i-1].Epoch >= a.Epoch {
			return errors.New("order of CAs")
		}
		if a.Role != PendingCA && a.Role != CurrentCA && a.Role != RetiringCA {
			return fmt.Errorf("CA of epoch %d has role %q", a.Epoch, a.Role)
		}
		count[a.Role]++
		c, err := a.Parse()
		if err != nil {
			return fmt.Errorf("certificate of the CA of epoch %d: %w", a.Epoch, err)
		}
		if err := checkCA(c); err != nil {
			return fmt.Errorf("certificate of the CA of epoch %d: %w", a.Epoch, err)
		}
	}
	if count[CurrentCA] != 1 || count[PendingCA] > 1 {
		return errors.New("want one current and at most one pending CA")
	}
	return nil
}

// envelope is a state with the documents that it names.
type envelope struct {
	State     State             `json:"state"`
	Documents map[string][]byte `json:"documents"`
}

func (e envelope) check() error {
	if err := e.State.check(); err != nil {
		return err
	}
	return checkDocuments(e.State.Documents, e.Documents)
}

var documentForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func checkDocuments(want map[string]string, have map[string][]byte) error {
	if len(want) != len(have) {
		return errors.New("documents are missing")
	}
	sum := 0
	for name, b := range have {
		if !documentForm.MatchString(name) {
			return fmt.Errorf("document has the name %q, want at most 64 of a-z 0-9 . _ -", name)
		}
		if want[name] != hashHex(b) {
			return fmt.Errorf("document %s is not the one that the state names", name)
		}
		sum += len(b)
	}
	if sum > maxDocuments {
		return fmt.Errorf("documents of %d bytes, at most %d", sum, maxDocuments)
	}
	return nil
}
