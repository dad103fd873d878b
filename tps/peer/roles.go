package peer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Role is what a node does in the array.
type Role string

// The roles with rules of their own. Others may be given: they call the array's own
// addresses and what [Config.Rules] adds.
const (
	TPS     Role = "tps"     // card operations
	TKS     Role = "tks"     // key service
	Console Role = "console" // agents' pages
	KRA     Role = "kra"     // key archive
	CA      Role = "ca"      // certificate authority
)

// Rule lets callers of some roles use the addresses below a path, on nodes of a role.
type Rule struct {
	Path string // prefix that ends with a slash
	From []Role // nil: every member
	To   Role   // empty: every member
}

// DefaultRules say who may call what. What no rule lets through is refused, on the
// calling side already: a key service, for one, calls nobody but the array.
var DefaultRules = []Rule{
	{Path: "/array/v1/"},
	{Path: "/tks/v1/", From: []Role{TPS}, To: TKS},
	{Path: "/tps/", From: []Role{TPS, Console}, To: TPS},
	{Path: "/kra/v1/", From: []Role{TPS}, To: KRA},
}

// allowed says whether a rule lets a caller use a path on a node.
func allowed(rules []Rule, from, to []Role, path string) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return strings.HasPrefix(path, r.Path) &&
			(r.From == nil || slices.ContainsFunc(r.From, func(x Role) bool { return slices.Contains(from, x) })) &&
			(r.To == "" || slices.Contains(to, r.To))
	})
}

var roleForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

func checkRoles(rs []Role) error {
	if len(rs) == 0 || len(rs) > 16 {
		return fmt.Errorf("%d roles, want 1 to 16", len(rs))
	}
	for i, r := range rs {
		if !roleForm.MatchString(string(r)) {
			return fmt.Errorf("%q is no role", r)
		}
		if slices.Contains(rs[:i], r) {
			return fmt.Errorf("role %s stands twice", r)
		}
	}
	return nil
}
