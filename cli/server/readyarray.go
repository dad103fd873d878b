package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"inkan/tps/peer"
)

// askTimeout is how long the other nodes may take to say how they are, where a load
// balancer waits for the answer.
const askTimeout = time.Second

// clockLimit is how much another node's clock may differ without a word.
const clockLimit = 5 * time.Second

// arrayReady tells how the node stands in its array: whether all nodes agree, its
// certificate, the others' clocks. It works without the others; it does not where the
// array has told it to stop.
func (n *Node) arrayReady(ctx context.Context) (parts map[string]string, stop error) {
	if n.detached() {
		return nil, errDetached
	}
	if n.peers == nil || !n.peers.Joined() {
		return nil, nil
	}
	node := n.peers.node.Load()
	if err := node.Superseded(); err != nil {
		return nil, err
	}
	if m, _ := n.peers.self(); m.State == peer.Draining {
		return nil, errors.New("this node is being detached from the array: it takes no new operation")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	st, err := node.Status(ctx)
	if err != nil {
		return map[string]string{"array": err.Error()}, nil
	}
	parts = arrayParts(st, node.ID())
	if c, _ := node.Certificate(); c != nil {
		parts["peer certificate"] = certificateState(c, renewalOf(st, node.ID()), time.Now())
	}
	if o, ok := node.Waiting(); ok {
		parts["array"] = fmt.Sprintf("%s was promoted by force: compare its CA and run inkan array promote --confirm", o.Primary)
	}
	return parts, nil
}

// arrayParts says whether all nodes agree, and whose clock is wrong.
func arrayParts(st peer.Status, self string) map[string]string {
	out := map[string]string{"array": "ok"}
	if st.Word != peer.Converged {
		out["array"] = fmt.Sprintf("%s: %s", st.Word, st.Why)
	}
	for _, m := range st.Members {
		if m.Member.Node != self && m.Err == nil && m.Offset.Abs() > clockLimit {
			out["clock of "+m.Member.Name] = fmt.Sprintf("differs by %v from this node's; at 30s a node may not join", m.Offset.Round(time.Millisecond))
		}
	}
	return out
}

// renewalOf is why a node's certificate was not renewed; empty: nothing is wrong.
func renewalOf(st peer.Status, node string) string {
	for _, m := range st.Members {
		if m.Member.Node == node {
			return m.Report.Renewal
		}
	}
	return ""
}

// warnAt are the parts of a certificate's life, per cent, of which it is said that no
// more than so much is left. It is renewed at 33.
var warnAt = []int{10, 25, 50}

// certificateState is ok, or what is wrong with the node's certificate: less than a
// quarter of its life is left, or it was not renewed and less than half is.
func certificateState(c *x509.Certificate, renewal string, now time.Time) string {
	until := c.NotAfter.UTC().Format(time.RFC3339)
	left := int(100 * float64(c.NotAfter.Sub(now)) / float64(c.NotAfter.Sub(c.NotBefore)))
	text := ""
	switch i := slices.IndexFunc(warnAt, func(at int) bool { return left < at }); {
	case now.After(c.NotAfter):
		text = fmt.Sprintf("expired on %s: join the array again with an invite", until)
	case i >= 0 && (renewal != "" || warnAt[i] <= 25):
		text = fmt.Sprintf("valid until %s, less than %d%% of its life is left", until, warnAt[i])
	default:
		return "ok"
	}
	if renewal != "" {
		text += "; it was not renewed " + renewal
	}
	return text
}
