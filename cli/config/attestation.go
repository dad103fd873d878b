package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// Names of sets of attestation roots that profiles may use besides those of [[attestation.set]].
const (
	MakerRoots = "yubico" // those that are built in
	SiteRoots  = "site"   // [attestation] roots
)

// Attestation says whose word counts that a card made a key itself, besides that of
// the makers whose roots are built in. Profiles say which keys have to be attested, and
// may name the sets that count for them.
type Attestation struct {
	Roots         []string         `toml:"roots"`         // PEM files; the root of a software card only with [node] lab and allow_simulator
	Intermediates []string         `toml:"intermediates"` // PEM files of authorities between a root and the cards
	Set           []AttestationSet `toml:"set"`
}

// AttestationSet are roots under a name of the site's own.
type AttestationSet struct {
	Name          string   `toml:"name"` // 1 to 32 lower-case letters, digits and -, beginning with a letter; not yubico, not site
	Roots         []string `toml:"roots"`
	Intermediates []string `toml:"intermediates"`
}

var setName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Sets are all sets that the configuration makes, the nameless one as [SiteRoots].
func (a Attestation) Sets() []AttestationSet {
	var all []AttestationSet
	if len(a.Roots) > 0 {
		all = append(all, AttestationSet{Name: SiteRoots, Roots: a.Roots, Intermediates: a.Intermediates})
	}
	return append(all, a.Set...)
}

func (a Attestation) check() error {
	if len(a.Roots) == 0 && len(a.Intermediates) > 0 {
		return errors.New("intermediates without roots, which they could lead to")
	}
	for i, s := range a.Set {
		switch {
		case !setName.MatchString(s.Name):
			return fmt.Errorf("set %q: want a name of 1 to 32 lower-case letters, digits and -, beginning with a letter", s.Name)
		case s.Name == MakerRoots || s.Name == SiteRoots:
			return fmt.Errorf("set %q: %s are the roots that are built in, %s those of [attestation] roots", s.Name, MakerRoots, SiteRoots)
		case slices.ContainsFunc(a.Set[:i], func(o AttestationSet) bool { return o.Name == s.Name }):
			return fmt.Errorf("set %q is there twice", s.Name)
		case len(s.Roots) == 0:
			return fmt.Errorf("set %q has no roots", s.Name)
		}
	}
	return nil
}
