package peer

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"

	"inkan/tps/wire"
)

// Report is what a node says of itself.
type Report struct {
	Node     string    `json:"node"`
	Array    string    `json:"array"`
	Epoch    uint64    `json:"epoch"`
	Hash     string    `json:"hash"` // [State.Hash]
	CAs      []string  `json:"cas"`  // fingerprints, sorted
	Primary  bool      `json:"primary"`
	Issuer   string    `json:"issuer"` // fingerprint of the CA of its certificate
	NotAfter time.Time `json:"not_after"`
	Version  string    `json:"version"`
	Time     time.Time `json:"time"`
	Facts    Facts     `json:"facts"`
	Waiting  string    `json:"waiting,omitempty"` // fingerprint of a CA that its operator has to confirm
	Renewal  string    `json:"renewal,omitempty"` // why its certificate could not be renewed
}

// ParseReport decodes a report.
func ParseReport(b []byte) (Report, error) {
	var r Report
	if err := strict(b, &r); err != nil {
		return Report{}, fmt.Errorf("decoding status report: %w", err)
	}
	return r, nil
}

// report says what this node is now.
func (n *Node) report(ctx context.Context) Report {
	v := n.view.Load()
	r := Report{Node: v.rec.Node, Array: v.rec.State.ID, Epoch: v.rec.State.Epoch, Hash: v.hash, CAs: v.rec.State.fingerprints(),
		Primary: v.primary(), Version: n.cfg.Version, Time: n.cfg.Now().UTC(), Facts: n.cfg.Facts(ctx), Renewal: n.renewal.failure()}
	if v.leaf != nil {
		r.NotAfter = v.leaf.NotAfter
	}
	if v.issuer != nil {
		r.Issuer = wire.FingerprintOf(v.issuer).String()
	}
	if w := v.rec.Waiting; w != nil && w.State.Promotion != nil {
		r.Waiting = w.State.Promotion.fingerprint().String()
	}
	return r
}

// Word is the state of the array in one word.
type Word string

// Only a converged array takes the next change.
const (
	Converged   Word = "converged"
	Converging  Word = "converging"
	Diverged    Word = "diverged" // for more than a minute
	Unreachable Word = "unreachable"
)

// divergedAfter is when a difference is no longer one that is about to end.
const divergedAfter = time.Minute

// Status is the array as a node sees it now.
type Status struct {
	Array   string
	Name    string
	Epoch   uint64
	Hash    string
	Word    Word
	Why     string // what differs, empty when converged
	Members []MemberStatus
}

// MemberStatus is one line of a [Status].
type MemberStatus struct {
	Member  Member
	Primary bool
	Report  Report        // zero: not reached now
	Offset  time.Duration // of its clock, by this node's
	Contact time.Time     // when this node has reached it last; zero: never
	Err     error         // why it could not be reached
}

// Status asks every member. A former primary that does not run finds out by it that
// another node was promoted.
func (n *Node) Status(ctx context.Context) (Status, error) {
	v := n.view.Load()
	if v.rec.Phase == superseded {
		return Status{}, n.Superseded()
	}
	if err := v.ready(); err != nil {
		return Status{}, err
	}
	s := v.rec.State
	st := Status{Array: s.ID, Name: s.Name, Epoch: s.Epoch, Hash: v.hash, Members: make([]MemberStatus, len(s.Members))}
	var wg sync.WaitGroup
	for i, m := range s.Members {
		wg.Go(func() { st.Members[i] = n.inquire(ctx, m) })
	}
	wg.Wait()
	if err := n.Superseded(); err != nil {
		return Status{}, err
	}
	st.Word, st.Why = n.judge(v, st.Members)
	return st, nil
}

func (n *Node) inquire(ctx context.Context, m Member) MemberStatus {
	ms := MemberStatus{Member: m, Primary: n.view.Load().rec.State.Primary == m.Node}
	if m.Node == n.ID() {
		ms.Report, ms.Contact = n.report(ctx), n.cfg.Now()
		return ms
	}
	call, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	began := n.cfg.Now()
	_, ms.Err = n.call(call, m, http.MethodGet, "/array/v1/status", nil, &ms.Report)
	if ms.Err != nil {
		n.askSuperseded(ctx, m, ms.Err)
		ms.Contact = n.heard.get(m.Node).At
		return ms
	}
	ms.Contact = n.cfg.Now()
	ms.Offset = ms.Report.Time.Sub(began.Add(ms.Contact.Sub(began) / 2)).Round(time.Millisecond)
	return ms
}

// judge compares the reports of all active members.
func (n *Node) judge(v *view, ms []MemberStatus) (Word, string) {
	word, why := Converged, ""
	if why = busyWith(v.rec.State); why != "" {
		word = Converging
	}
	for _, m := range ms {
		if m.Member.State != Active {
			continue
		}
		if m.Err != nil {
			return Unreachable, m.Member.Name + ": " + m.Err.Error()
		}
		if m.Report.Epoch != v.rec.State.Epoch || m.Report.Hash != v.hash {
			word, why = Converging, m.Member.Name+": "+contact{Report: m.Report, At: m.Contact}.explain(v)
		}
	}
	if word == Converging && n.cfg.Now().Sub(time.Unix(0, n.moved.Load())) > divergedAfter {
		word = Diverged
	}
	return word, why
}

// CAStatus is one CA that a node trusts its peers by.
type CAStatus struct {
	Epoch       uint64
	Role        CARole
	CA          *x509.Certificate
	Fingerprint wire.Fingerprint
	Words       string // see [Words]
}

// CAs are the CAs that this node trusts.
func (n *Node) CAs() []CAStatus {
	var cs []CAStatus
	for _, a := range n.view.Load().rec.State.CAs {
		if c, err := a.Parse(); err == nil {
			f := wire.FingerprintOf(c)
			cs = append(cs, CAStatus{a.Epoch, a.Role, c, f, Words(f)})
		}
	}
	return cs
}
