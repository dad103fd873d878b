package server

import (
	"time"

	"inkan/tps/peer"
)

// ArrayStatus is the array as this node sees it.
type ArrayStatus struct {
	Array   string        `json:"Array"` // id
	Name    string        `json:"Name"`
	Node    string        `json:"Node"` // name of this node
	Epoch   uint64        `json:"Epoch"`
	Hash    string        `json:"Hash"`
	State   string        `json:"State"`         // converged, converging, diverged, unreachable
	Why     string        `json:"Why,omitempty"` // what differs
	Running bool          `json:"Running"`       // the node, not only its folder, was asked
	Members []ArrayMember `json:"Members"`
	Waiting *ArrayOffer   `json:"Waiting,omitempty"` // a promotion by force that somebody has to confirm here
}

// ArrayMember is a member, and what it says of itself.
type ArrayMember struct {
	Node       string        `json:"Node"` // id
	Name       string        `json:"Name"`
	Address    string        `json:"Address"`
	Roles      []string      `json:"Roles"`
	Primary    bool          `json:"Primary"`
	State      string        `json:"State"`
	Version    string        `json:"Version"`
	Joined     time.Time     `json:"Joined"`
	Epoch      uint64        `json:"Epoch"` // 0: not reached
	Hash       string        `json:"Hash,omitempty"`
	CA         string        `json:"CA,omitempty"` // fingerprint of its certificate's issuer
	NotAfter   time.Time     `json:"NotAfter"`     // of its certificate
	SigningKID string        `json:"SigningKID,omitempty"`
	Config     string        `json:"Config,omitempty"` // generation
	Offset     time.Duration `json:"Offset"`           // of its clock, by this node's
	Contact    time.Time     `json:"Contact"`          // last reached; zero: never
	Waiting    string        `json:"Waiting,omitempty"`
	Renewal    string        `json:"Renewal,omitempty"` // why its certificate was not renewed
	Error      string        `json:"Error,omitempty"`   // why it was not reached
}

// ArrayOffer is a CA that a person is asked to trust.
type ArrayOffer struct {
	Array       string    `json:"Array"` // id
	Name        string    `json:"Name"`
	Primary     string    `json:"Primary"`
	Members     int       `json:"Members"`
	Subject     string    `json:"Subject"`
	NotBefore   time.Time `json:"NotBefore"`
	NotAfter    time.Time `json:"NotAfter"`
	Fingerprint string    `json:"Fingerprint"`
	Words       string    `json:"Words"`
}

// ArrayCA is a CA that this node trusts.
type ArrayCA struct {
	Subject     string    `json:"Subject"`
	Epoch       uint64    `json:"Epoch"`
	Role        string    `json:"Role"` // pending, current, retiring
	NotBefore   time.Time `json:"NotBefore"`
	NotAfter    time.Time `json:"NotAfter"`
	Fingerprint string    `json:"Fingerprint"`
	Words       string    `json:"Words"`
}

// ArrayCAs are all of them, and this node's own certificate.
type ArrayCAs struct {
	CAs  []ArrayCA `json:"CAs"`
	Node string    `json:"Node"`
	// NotAfter ends the node's own peer certificate, Renewal is when it is replaced.
	NotAfter time.Time `json:"NotAfter"`
	Renewal  time.Time `json:"Renewal"`
}

func offerOf(o peer.Offer) ArrayOffer {
	return ArrayOffer{Array: o.Array, Name: o.Name, Primary: o.Primary, Members: o.Members, Subject: o.CA.Subject.CommonName,
		NotBefore: o.CA.NotBefore, NotAfter: o.CA.NotAfter, Fingerprint: o.Fingerprint.String(), Words: o.Words}
}

func (n *Node) getArrayStatus(c arrayCall) (any, error) {
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	st, err := node.Status(c.Context())
	if err != nil {
		return nil, err
	}
	out := ArrayStatus{Array: st.Array, Name: st.Name, Node: n.Config.PeerName(), Epoch: st.Epoch, Hash: st.Hash, State: string(st.Word), Why: st.Why,
		Running: n.serving.Load()}
	for _, m := range st.Members {
		out.Members = append(out.Members, memberOf(m))
	}
	if o, ok := node.Waiting(); ok {
		w := offerOf(o)
		out.Waiting = &w
	}
	return out, nil
}

func memberOf(m peer.MemberStatus) ArrayMember {
	out := ArrayMember{Node: m.Member.Node, Name: m.Member.Name, Address: m.Member.Address, Primary: m.Primary, State: string(m.Member.State),
		Version: m.Member.Version, Joined: m.Member.Joined, Epoch: m.Report.Epoch, Hash: m.Report.Hash, CA: m.Report.Issuer, NotAfter: m.Report.NotAfter,
		SigningKID: m.Report.Facts.SigningKID, Config: m.Report.Facts.ConfigGeneration, Offset: m.Offset, Contact: m.Contact,
		Waiting: m.Report.Waiting, Renewal: m.Report.Renewal}
	for _, r := range m.Member.Roles {
		out.Roles = append(out.Roles, string(r))
	}
	if m.Err != nil {
		out.Error = m.Err.Error()
	}
	if certs := m.Member.Certificates; out.NotAfter.IsZero() && len(certs) > 0 {
		out.NotAfter = certs[len(certs)-1].NotAfter
	}
	return out
}

func (n *Node) getArrayCAs(arrayCall) (any, error) {
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if _, ok := node.State(); !ok {
		return nil, peer.ErrOutside
	}
	out := ArrayCAs{Node: n.Config.PeerName()}
	for _, ca := range node.CAs() {
		out.CAs = append(out.CAs, ArrayCA{Subject: ca.CA.Subject.CommonName, Epoch: ca.Epoch, Role: string(ca.Role), NotBefore: ca.CA.NotBefore, NotAfter: ca.CA.NotAfter,
			Fingerprint: ca.Fingerprint.String(), Words: ca.Words})
	}
	if c, renewal := node.Certificate(); c != nil {
		out.NotAfter, out.Renewal = c.NotAfter, renewal
	}
	return out, nil
}
