package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"inkan/tps/api"
	"inkan/tps/peer"
	"inkan/tps/wire"
)

// postArrayInit makes an array of one. Where the node runs, its port is opened first:
// one that is taken is refused before anything is made.
func (n *Node) postArrayInit(c arrayCall) (any, error) {
	var q ArrayInit
	if err := c.read(&q); err != nil {
		return nil, err
	}
	if q.Name == "" {
		q.Name = n.Config.Node.Name
	}
	if n.peers.Joined() {
		return nil, peer.ErrInside
	}
	if err := n.peers.open(c.Context()); err != nil {
		return nil, fmt.Errorf("%w; [listen] peer_name and peer_address say how the other nodes find this one; nothing was changed", err)
	}
	var port net.Listener
	if n.serving.Load() {
		var err error
		if port, err = n.peers.Listen(c.Context()); err != nil {
			return nil, fmt.Errorf("listening for the other nodes ([listen] peer), nothing was changed: %w", err)
		}
	}
	node := n.peers.node.Load()
	if err := node.Init(c.Context(), q.Name, peer.InitOptions{Domains: q.Domains, RecoveryFile: q.RecoveryFile}); err != nil {
		if port != nil {
			err = errors.Join(err, port.Close())
		}
		return nil, err
	}
	if port != nil {
		n.peers.port <- port
		if err := n.publish(c.Context()); err != nil {
			return nil, fmt.Errorf("the array is made; %w", err)
		}
	}
	return n.getArrayStatus(c)
}

// errOwnRecords: other nodes cannot share a file of this machine.
var errOwnRecords = errors.New("the records of this node are in a file of its own ([database] file); the nodes of an array share a PostgreSQL database: " +
	"inkan config move-database takes them there; nothing was changed")

func (n *Node) postArrayInvite(c arrayCall) (any, error) {
	var q ArrayInvite
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if n.Config.Database.URL == "" {
		return nil, errOwnRecords
	}
	out := codeAnswer{Invited: Invited{Name: q.Name, Roles: q.Roles}}
	var roles []peer.Role
	for _, r := range q.Roles {
		roles = append(roles, peer.Role(r))
	}
	if q.TTL == 0 {
		q.TTL = time.Hour
	}
	if out.code, err = node.Invite(q.Name, roles, q.TTL); err != nil {
		return nil, err
	}
	out.Expires = time.Now().Add(q.TTL).UTC().Truncate(time.Second)
	s, _ := node.State()
	self, _ := s.Member(node.ID())
	out.Primary = self.Address
	for _, ca := range node.CAs() {
		if ca.Role == peer.CurrentCA {
			out.Fingerprint = ca.Fingerprint.String()
		}
	}
	return out, nil
}

// named finds a member; empty: this node.
func named(node *peer.Node, name string) (string, error) {
	s, ok := node.State()
	if !ok {
		return "", peer.ErrOutside
	}
	if name == "" {
		return node.ID(), nil
	}
	for _, m := range s.Members {
		if m.Name == name || m.Node == name {
			return m.Node, nil
		}
	}
	return "", fmt.Errorf("%w: %s (inkan array status lists them)", peer.ErrUnknownNode, name)
}

// errNotRunning: the others have to be reached for a change.
var errNotRunning = errors.New("the node does not run (inkan serve), and the other nodes have to follow a change: start it first; nothing was changed")

func (n *Node) postArrayDetach(c arrayCall) (any, error) {
	var q ArrayDetach
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if q.Name == "" {
		return Changed{}, node.DetachSelf(c.Context())
	}
	id, err := named(node, q.Name)
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	ctx, cancel := context.WithTimeout(c.Context(), detachTimeout)
	defer cancel()
	return settled(node.Detach(ctx, id, q.Force))
}

// Longest waits for the end of a change, which goes on by itself behind them.
const (
	changeTimeout = 2 * time.Minute
	detachTimeout = 7 * time.Minute // the member may end what runs for 5
)

// settled takes a change that was made and that goes on by itself for what it is.
func settled(err error) (any, error) {
	if errors.Is(err, peer.ErrPending) {
		return Changed{Pending: err.Error()}, nil
	}
	return Changed{}, err
}

func (n *Node) postArrayPromote(c arrayCall) (any, error) {
	var q struct {
		ArrayPromote
		RecoveryKey api.Text `json:"RecoveryKey"`
	}
	if err := c.read(&q); err != nil {
		return nil, err
	}
	defer q.RecoveryKey.Wipe()
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	id, err := named(node, q.Name)
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	if !q.Force {
		ctx, cancel := context.WithTimeout(c.Context(), changeTimeout)
		defer cancel()
		return settled(node.Promote(ctx, id))
	}
	if id != node.ID() {
		return nil, errors.New("promotion by force runs on the node that is to be the primary; nothing was changed")
	}
	f, err := node.ForcePromote(c.Context(), q.RecoveryKey.Secret)
	if err != nil {
		return nil, err
	}
	return Changed{Fingerprint: f.String()}, nil
}

func (n *Node) postArrayRotate(c arrayCall) (any, error) {
	var q ArrayRotate
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	ctx, cancel := context.WithTimeout(c.Context(), changeTimeout)
	defer cancel()
	return settled(node.RotateCA(ctx, q.Domains...))
}

func (n *Node) postArrayConfirm(c arrayCall) (any, error) {
	var q ArrayConfirm
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	f, err := wire.ParseFingerprint(q.Fingerprint)
	if err != nil {
		return nil, err
	}
	return Changed{Fingerprint: f.String()}, node.Confirm(f)
}
