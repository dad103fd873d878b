package realm

import (
	"fmt"
	"slices"
	"time"
)

// Use is what a key signs. Different uses never share a key.
type Use string

// Uses.
const (
	ForSessions Use = "sig"    // access, id and step-up tokens, and what clients are told
	ForTickets  Use = "ticket" // what card clients present instead of a password
	ForAudit    Use = "audit"  // checkpoints of the audit record
)

// Uses lists all of them.
func Uses() []Use { return []Use{ForSessions, ForTickets, ForAudit} }

// ParseUse reads the name of a use; the empty one is ForSessions.
func ParseUse(s string) (Use, error) {
	if s == "" {
		return ForSessions, nil
	}
	if !slices.Contains(Uses(), Use(s)) {
		return "", fmt.Errorf("use %q is none of %v: %w", s, Uses(), ErrInput)
	}
	return Use(s), nil
}

// Type is a kind of token. Verifiers accept nothing but what it says.
type Type struct {
	Name       string      // typ of the header (RFC 8725 §3.11)
	Use        Use         // of the key
	Algorithms []Algorithm // that are accepted; the first that a key has signs
}

// algorithms are those of what the realm signs by itself, the best first; the second
// is for HSMs that have no elliptic curves.
var algorithms = []Algorithm{ES256, RS256}

// Types of tokens.
var (
	accessType     = Type{"at+jwt", ForSessions, algorithms} // RFC 9068 §2.1
	idType         = Type{"JWT", ForSessions, algorithms}    // OpenID Connect Core 1.0 §2
	pushType       = Type{"JWT", ForSessions, Algorithms()}
	revocationType = Type{"tms-revocation+jwt", ForSessions, Algorithms()}
	ticketType     = Type{"tms-ticket+jwt", ForTickets, algorithms}
	checkpointType = Type{"tms-audit-checkpoint+jwt", ForAudit, algorithms}
)

// Types that others than the realm verify.
func IDTokenType() Type    { return idType }
func PushType() Type       { return pushType }
func RevocationType() Type { return revocationType }

// of is the policy for keys of a use: those of the audit record sign for a year at
// least, and what they signed is good for ever.
func (p Policy) of(u Use) Policy {
	if u == ForAudit {
		p.Every = max(p.Every, 365*day)
		p.PassiveFor = forEver
	}
	return p
}

// forEver is longer than anybody asks.
const forEver = 200 * 365 * day

// firstPriority is that of the key that a realm begins with.
const firstPriority = 100

// here are the keys that this node signs with, if any: those of a vault that all
// nodes reach, and those of its own key file.
func (r *Realm) here(keys []Key) []Key { return reachable(keys, r.cfg.Node) }

func reachable(keys []Key, node string) []Key {
	var out []Key
	for _, k := range keys {
		if k.Node == "" || k.Node == node {
			out = append(out, k)
		}
	}
	return out
}

// held reports whether the private half of a key is where this node can reach it.
func (r *Realm) held(k Key) bool { return k.Node == "" || k.Node == r.cfg.Node }

// holder is the node of a key made now.
func (r *Realm) holder() string {
	if r.cfg.Own {
		return r.cfg.Node
	}
	return ""
}

// notBefore is the second before which no token of a use counts, zero if there is none.
func (rec Records) notBefore(u Use) time.Time { return rec.NotBefore[u] }
