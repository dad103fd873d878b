// Package remote is the token key service over HTTP: [NewHandler] serves any
// tks.Service and the key pairs of an HSM to other nodes, [New] is the tks.Service
// of a node that has no HSM and asks those that do; [Client.Signers] are its key
// pairs.
//
// Requests are POST /tks/v1/{random,session,keyset,encrypt,secret} with the fields
// of package tks as a JSON object in snake_case, bytes in upper-case hexadecimal.
// /tks/v1/signer/{find,sign,generate,import,destroy} are for key pairs,
// /tks/v1/keys tells which keys a node has. A refusal is a problem document (RFC
// 9457) whose member error is the name of the error, so that errors.Is says the same
// at both ends.
//
// The package knows no certificates: who calls is [HandlerConfig.Identify]'s answer,
// and every [Node] brings the *http.Client that reaches it and proves that it is it.
// Both ends belong on mutual TLS: session keys are in the answers.
//
// # Several nodes
//
// A client stays with one node as long as that answers. A call that fails for want
// of the node (no connection, no answer in time, 502 to 504, an answer that is cut
// or is none) goes to the next, to each once; the node then rests, and is asked only
// where no other answers. Any other answer counts, whatever it says.
//
// All calls of tks.Service may be repeated, at the same node or at another: the
// proof travels with each request and the service keeps no session. The same proof
// gives the same session keys; WrapKeySet from a published or undiversified set is
// granted by KDD, and the same changeover of the same card is the same grant, at every
// node where those keep their [Ledger] together. Finding a key pair and signing with it
// may be repeated too. Making one may not: it goes to another node only where the
// first was not reached at all.
//
// Everything here is safe for concurrent use.
package remote

import (
	"context"
	"fmt"
	"slices"

	"inkan/tks"
)

// Base begins the path of every call.
const Base = "/tks/v1/"

// Method is what a caller may be allowed.
type Method string

// Methods. The first five are those of tks.Service.
const (
	MethodRandom  Method = "random"
	MethodSession Method = "session"
	MethodKeySet  Method = "keyset"
	MethodEncrypt Method = "encrypt"
	MethodSecret  Method = "secret"
	// MethodKeys tells which keys there are, with their check values.
	MethodKeys Method = "keys"
	// MethodSign finds the authority's and the realm's key pairs and signs with them.
	MethodSign Method = "sign"
	// MethodSigners makes, takes in and destroys the realm's key pairs.
	MethodSigners Method = "signers"
	// MethodLedger keeps the ledger of keyed cards together with other nodes that have
	// keys. Nobody else may write in it.
	MethodLedger Method = "ledger"
)

// Methods lists all of them.
func Methods() []Method {
	return []Method{
		MethodRandom, MethodSession, MethodKeySet, MethodEncrypt, MethodSecret, MethodKeys, MethodSign, MethodSigners, MethodLedger,
	}
}

// ParseMethod reads the name of a method.
func ParseMethod(s string) (Method, error) {
	if !slices.Contains(Methods(), Method(s)) {
		return "", fmt.Errorf("method %q: want one of %v", s, Methods())
	}
	return Method(s), nil
}

// AnyKeySet in a grant stands for every key set.
const AnyKeySet tks.KeySetName = "*"

// Caller is a peer that calls, and what it may do.
type Caller struct {
	Name string
	Grant
}

// Grant is what a peer may do. The zero value is nothing.
type Grant struct {
	Methods []Method
	KeySets []tks.KeySetName // AnyKeySet: every one
	// CallsPerMinute bounds all calls together, that many at once too; 0 does not.
	CallsPerMinute int
}

// allows reports why a grant does not reach, nil where it does.
func (g Grant) allows(m Method, sets ...tks.KeySetName) error {
	if !slices.Contains(g.Methods, m) {
		return fmt.Errorf("the method %s is not in its list: %w", m, tks.ErrDenied)
	}
	if slices.Contains(g.KeySets, AnyKeySet) {
		return nil
	}
	for _, set := range sets {
		if !slices.Contains(g.KeySets, set) {
			return fmt.Errorf("the key set %.40q is not in its list: %w", set, tks.ErrDenied)
		}
	}
	return nil
}

type callerKey struct{}

// CallerOf is who sent the request that a handler is serving with ctx; ok is false
// for calls of this node's own.
func CallerOf(ctx context.Context) (c Caller, ok bool) {
	c, ok = ctx.Value(callerKey{}).(Caller)
	return c, ok
}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}
