package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"inkan/cli/config"
	"inkan/tks/remote"
	"inkan/tps/peer"
	"inkan/tps/realm"
)

// PeerFolder is where a node keeps what it knows of its array.
const PeerFolder = "peer"

// peerRules say who may call what on the peer port. What a caller may ask of the keys
// is a matter of its grant too.
var peerRules = []peer.Rule{
	{Path: "/array/v1/"},
	{Path: remote.Base, From: []peer.Role{peer.TPS, peer.Console, peer.TKS}, To: peer.TKS},
	{Path: "/healthz"},
	{Path: readyPath},
	{Path: realm.NotBeforePath},
}

// peers is the node's part of its array.
type peers struct {
	n    *Node
	node atomic.Pointer[peer.Node] // nil: in no array
	// port takes the listener of an array that was made while the node serves.
	port    chan net.Listener
	changed chan struct{} // the array has a new state
}

var _ array = (*peers)(nil)

// openPeers reads what the node knows of its array.
func (n *Node) openPeers(ctx context.Context) error {
	n.peers = &peers{n: n, port: make(chan net.Listener, 1), changed: make(chan struct{}, 1)}
	n.array = n.peers
	if err := n.readLeft(); err != nil {
		return err
	}
	if !peer.Kept(n.path(PeerFolder)) {
		return nil
	}
	return n.peers.open(ctx)
}

// open makes the node ready for an array.
func (p *peers) open(ctx context.Context) error {
	if p.node.Load() != nil {
		return nil
	}
	node, err := peer.Open(ctx, p.config())
	if err != nil {
		return fmt.Errorf("opening this node's part of the array: %w", err)
	}
	p.node.Store(node)
	return nil
}

func (p *peers) config() peer.Config {
	n := p.n
	program := n.program
	if program == "" {
		program = "devel"
	}
	return peer.Config{
		Dir: n.path(PeerFolder), Key: n.peerKey(), CAKeys: n.peerCAKeys(), Name: n.Config.PeerName(), Address: n.Config.PeerAddress(),
		Roles: peerRoles(n.Config.Node), Version: program, Rules: peerRules, Log: n.log,
		Facts: n.facts, Drain: n.drain, Left: n.leaveArray,
		Changed: func(peer.State, map[string][]byte) { p.tell() },
	}
}

// tell has follow look at the array.
func (p *peers) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// peerRoles are the roles of a node as the array has them: all stands for each.
func peerRoles(n config.Node) []peer.Role {
	var out []peer.Role
	for _, r := range []config.Role{config.RoleTPS, config.RoleTKS, config.RoleConsole} {
		if n.Has(r) {
			out = append(out, peer.Role(r))
		}
	}
	return out
}

// Joined implements array.
func (p *peers) Joined() bool {
	node := p.node.Load()
	if node == nil {
		return false
	}
	_, ok := node.State()
	return ok
}

// TKSNodes implements array.
func (p *peers) TKSNodes() []remote.Node {
	node := p.node.Load()
	if node == nil {
		return nil
	}
	var out []remote.Node
	for _, m := range node.Members(peer.TKS) {
		if m.Node != node.ID() && m.State != peer.Lost {
			out = append(out, remote.Node{Name: m.Name, URL: m.URL(), Client: node.Client(m.Node)})
		}
	}
	return out
}

// Identify implements array.
func (p *peers) Identify(r *http.Request) (member, error) {
	node := p.node.Load()
	if node == nil {
		return member{}, peer.ErrOutside
	}
	c, err := node.Caller(r)
	if err != nil {
		return member{}, err
	}
	m := member{Name: c.Name}
	for _, role := range c.Roles {
		m.Roles = append(m.Roles, config.Role(role))
	}
	return m, nil
}

// Listen implements array.
func (p *peers) Listen(context.Context) (net.Listener, error) {
	return net.Listen("tcp", p.n.Config.Listen.Peer)
}

// Serve implements array.
func (p *peers) Serve(ctx context.Context, port net.Listener, h http.Handler) error {
	node := p.node.Load()
	if node == nil {
		return errors.Join(peer.ErrOutside, port.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		node.Run(ctx)
	}()
	err := node.Serve(ctx, port, h)
	cancel()
	<-ran
	return err
}

// self is this node as a member, zero where it is none, and the epoch of its array.
func (p *peers) self() (peer.Member, uint64) {
	node := p.node.Load()
	if node == nil {
		return peer.Member{}, 0
	}
	s, _ := node.State()
	m, _ := s.Member(node.ID())
	return m, s.Epoch
}

// leads refuses a change of what all nodes have in common, where another node is the
// primary: that gives it to the others.
func (p *peers) leads() error {
	if p == nil || p.node.Load() == nil {
		return nil
	}
	node := p.node.Load()
	s, inside := node.State()
	if err := node.Superseded(); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if !inside || node.Primary() {
		return nil
	}
	m, _ := s.Member(s.Primary)
	return fmt.Errorf("the nodes of an array take this from their primary, %s: run it there; nothing was changed", m.Name)
}

// activeTimeout is how long a node that has joined waits to be heard of.
const activeTimeout = time.Minute

// becomeActive takes part in the array until the others have taken this node up: no
// other node answers it before.
func (p *peers) becomeActive(ctx context.Context) error {
	if m, _ := p.self(); m.State != peer.Joining {
		return nil
	}
	port, err := p.Listen(ctx)
	if err != nil {
		return fmt.Errorf("listening for the other nodes of the array: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, activeTimeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, port, nil) }()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if m, _ := p.self(); m.State == peer.Joining {
				continue
			}
			cancel()
			return <-ended
		case err := <-ended:
			return errors.Join(fmt.Errorf("the primary has not taken this node up yet: it has to reach it at %s", p.n.Config.PeerAddress()), err)
		}
	}
}

// facts are what the node tells the others of itself.
func (n *Node) facts(ctx context.Context) peer.Facts {
	f := peer.Facts{ConfigGeneration: n.generation, RealmNode: n.Config.Node.Name, RealmURL: n.Config.Listen.URL}
	if n.Realm == nil {
		return f
	}
	keys, err := n.Realm.Keys(ctx)
	if err != nil {
		n.log.WarnContext(ctx, "the realm keys are not told to the array", slog.Any("err", err))
		return f
	}
	if i := slices.IndexFunc(keys, func(k realm.Key) bool { return realm.Signs(keys, k) }); i >= 0 {
		f.SigningKID = keys[i].KID
	}
	return f
}
