package server

import (
	"context"

	"inkan/tps/peer"
	"inkan/tps/realm"
)

// realmNodes are the other nodes of the array, which are told of a compromised key over
// the peer port. They see it in the database too: one that does not answer now, or that
// has another [listen] url and so takes no token of this node's, learns it there.
func (n *Node) realmNodes(ctx context.Context) []realm.Client {
	if n.peers == nil || !n.peers.Joined() {
		return nil
	}
	node := n.peers.node.Load()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	st, err := node.Status(ctx)
	if err != nil {
		return nil
	}
	var out []realm.Client
	for _, m := range st.Members {
		if m.Member.Node == node.ID() || m.Member.State != peer.Active {
			continue
		}
		c := realm.Client{ID: m.Member.Name}
		if f := m.Report.Facts; m.Err == nil && f.RealmURL == n.Config.Listen.URL && f.RealmNode != "" {
			c = realm.Client{ID: f.RealmNode, AdminURL: m.Member.URL(), HTTP: node.Client(m.Member.Node)}
		}
		out = append(out, c)
	}
	return out
}
