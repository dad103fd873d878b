package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"inkan/tks"
	"inkan/tks/remote"
)

// Role is a part of the work that a node does in an array.
type Role string

// Roles.
const (
	RoleTPS     Role = "tps"     // serves card clients
	RoleTKS     Role = "tks"     // has the keys, and serves them to the other nodes
	RoleConsole Role = "console" // serves people: REST, console
	RoleAll     Role = "all"     // all of that
)

// Values of [tks] keying_quorum.
const (
	QuorumMajority  = "majority"
	QuorumAnswering = "answering"
)

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case RoleTPS, RoleTKS, RoleConsole, RoleAll:
		return r, nil
	}
	return "", fmt.Errorf("role %q: want tps, tks, console or all", s)
}

// Has reports whether the node does the work of a role. A node for which no role is
// written does all of it.
func (n Node) Has(r Role) bool {
	return len(n.Roles) == 0 || slices.Contains(n.Roles, RoleAll) || slices.Contains(n.Roles, r)
}

// PeerName is the DNS name by which the other nodes of an array know the node.
func (c Config) PeerName() string {
	if c.Listen.PeerName != "" {
		return c.Listen.PeerName
	}
	return strings.ToLower(c.Node.Name)
}

// PeerAddress is the host and port at which they reach it.
func (c Config) PeerAddress() string {
	if c.Listen.PeerAddress != "" {
		return c.Listen.PeerAddress
	}
	_, port, _ := net.SplitHostPort(c.Listen.Peer) // checked
	return net.JoinHostPort(c.PeerName(), port)
}

// Peer is what another node of the array may ask of this one's keys. A node that is
// not listed may what its roles need.
type Peer struct {
	Name string `toml:"name"` // as inkan array status shows it
	// Methods are random, session, keyset, encrypt, secret, keys, sign, signers and
	// ledger; left out: those of the node's roles. secret, the PIV management keys and PUKs of cards
	// that nobody has to have, is in no role and has to be written here.
	Methods        []remote.Method  `toml:"methods"`
	KeySets        []tks.KeySetName `toml:"key_sets"`         // default: "*", every one
	CallsPerMinute int              `toml:"calls_per_minute"` // together, and at once; default 6000
}

// callsPerMinute is what a peer may call where nothing is written: 600 operations.
const callsPerMinute = 6000

// methods are what the roles of a node need of another one's keys.
var methods = map[Role][]remote.Method{
	RoleTPS: {
		remote.MethodRandom, remote.MethodSession, remote.MethodKeySet, remote.MethodEncrypt,
		remote.MethodKeys, remote.MethodSign, remote.MethodSigners,
	},
	RoleConsole: {remote.MethodRandom, remote.MethodKeys, remote.MethodSign, remote.MethodSigners},
	RoleTKS:     {remote.MethodRandom, remote.MethodKeys, remote.MethodSign, remote.MethodSigners, remote.MethodLedger},
}

// Grant is what the node called name, which has roles, may ask of this node's keys.
func (c Config) Grant(name string, roles []Role) remote.Grant {
	p := Peer{Name: name}
	if i := slices.IndexFunc(c.Peer, func(p Peer) bool { return p.Name == name }); i >= 0 {
		p = c.Peer[i]
	}
	if p.Methods == nil {
		for _, r := range []Role{RoleTPS, RoleTKS, RoleConsole} {
			if !(Node{Roles: roles}).Has(r) || len(roles) == 0 {
				continue
			}
			for _, m := range methods[r] {
				if !slices.Contains(p.Methods, m) {
					p.Methods = append(p.Methods, m)
				}
			}
		}
	}
	if p.KeySets == nil {
		p.KeySets = []tks.KeySetName{remote.AnyKeySet}
	}
	set(&p.CallsPerMinute, callsPerMinute)
	return remote.Grant{Methods: p.Methods, KeySets: p.KeySets, CallsPerMinute: p.CallsPerMinute}
}

// checkRoles names what is wrong with the roles.
func (c Config) checkRoles() error {
	var errs []error
	for i, r := range c.Node.Roles {
		if _, err := ParseRole(string(r)); err != nil {
			errs = append(errs, err)
		}
		if slices.Contains(c.Node.Roles[:i], r) {
			errs = append(errs, fmt.Errorf("role %s is there twice", r))
		}
	}
	if len(c.Node.Roles) > 1 && slices.Contains(c.Node.Roles, RoleAll) {
		errs = append(errs, errors.New("all stands alone"))
	}
	if c.Listen.Plain != "" && !c.Node.Has(RoleTPS) {
		errs = append(errs, errors.New("[listen] plain serves card clients, which needs the role tps"))
	}
	return errors.Join(errs...)
}

// checkPeers names what is wrong with the peers.
func (c Config) checkPeers() error {
	var errs []error
	seen := map[string]bool{}
	for _, p := range c.Peer {
		if p.Name == "" || seen[p.Name] {
			errs = append(errs, fmt.Errorf("name %q is empty or there twice", p.Name))
		}
		seen[p.Name] = true
		for _, m := range p.Methods {
			if _, err := remote.ParseMethod(string(m)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			}
		}
		for _, s := range p.KeySets {
			if _, err := tks.ParseKeySetName(string(s)); err != nil && s != remote.AnyKeySet {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			}
		}
		if p.CallsPerMinute < 0 {
			errs = append(errs, fmt.Errorf("%s: calls_per_minute %d is not positive", p.Name, p.CallsPerMinute))
		}
	}
	return errors.Join(errs...)
}
