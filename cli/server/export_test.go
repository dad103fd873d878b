package server

import (
	"context"
	"net"
	"net/http"

	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tps/realm"
)

var (
	WithPeer = withPeer
	KeyError = keyError
)

// WithUser is the context of a connection whose peer is a user.
func WithUser(ctx context.Context, uid string, err error) context.Context {
	return context.WithValue(ctx, peerKey{}, caller{uid, err})
}

// ListenLocal listens on the local socket.
func (n *Node) ListenLocal() (net.Listener, error) { return n.listenLocal() }

// LocalHandler serves it.
func (n *Node) LocalHandler() http.Handler { return n.localHandler() }

// RealmVault is a key file or HSM as the realm sees it.
func RealmVault(s hsm.Signers) realm.Vault { return realmVault{s} }

// IsBound reports whether a key set's cards have keys of their own.
func (n *Node) IsBound(set tks.KeySetName) bool { return n.bound(set) }

// ServeReady answers /readyz.
func (n *Node) ServeReady(w http.ResponseWriter, r *http.Request) { n.serveReady(w, r) }

// An array as nodes see it, for tests.
type Member = member

// OpenIn opens the folder of a node of an array.
var OpenIn = openIn

// Refusals of a node whose roles want an array.
var (
	ErrNoKeys = errNoKeys
	ErrNoPort = errNoPort
)

// Signers are the key pairs that the node signs with.
func (n *Node) Signers() hsm.Signers { return n.signers }

// HasMakers tells whether the makers' roots are in this build.
var HasMakers = makers != nil

// Routes are the addresses of the public server.
func (n *Node) Routes() (http.Handler, error) { return n.routes() }

// CertificateState and ArrayParts are what /readyz says of a node in its array.
var (
	CertificateState = certificateState
	ArrayParts       = arrayParts
)
