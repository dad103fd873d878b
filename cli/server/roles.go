package server

import (
	"context"
	"errors"
	"net"
	"net/http"

	"inkan/cli/config"
	"inkan/tks/remote"
)

// array is the array of nodes as one of them sees it.
type array interface {
	// Joined reports whether the node is in an array, if only in one of its own.
	Joined() bool
	// TKSNodes lists the other nodes with the role tks, as they are now.
	TKSNodes() []remote.Node
	// Identify says which node sent a request that came in over Listen.
	Identify(*http.Request) (member, error)
	// Listen opens the peer port.
	Listen(context.Context) (net.Listener, error)
	// Serve takes part in the array until ctx ends, and closes the port. Requests reach
	// h only from nodes of the array.
	Serve(ctx context.Context, port net.Listener, h http.Handler) error
}

// member is a node of the array.
type member struct {
	Name  string
	Roles []config.Role
}

// Refusals of a node whose roles want an array that it is not in.
var (
	errNoKeys = errors.New("the node has not the role tks, and is in no array whose nodes could have keys for it: inkan array join, or [node] roles = [\"all\"]")
	errNoPort = errors.New("the node has only the role tks, and is in no array that it could serve: inkan array join, or [node] roles = [\"all\"]")
)

// servesCards reports whether card clients are served.
func (n *Node) servesCards() bool { return n.Config.Node.Has(config.RoleTPS) }

// servesPeople reports whether people are served.
func (n *Node) servesPeople() bool { return n.Config.Node.Has(config.RoleConsole) }

// hasKeys reports whether the node has an HSM or key file of its own.
func (n *Node) hasKeys() bool { return n.Config.Node.Has(config.RoleTKS) }

// public reports whether the node opens its public port: one that has only keys
// does not.
func (n *Node) public() bool { return n.servesCards() || n.servesPeople() }
