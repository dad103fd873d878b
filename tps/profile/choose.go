package profile

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"inkan/tps/token"
)

// Errors of Choose and Load.
var (
	ErrUnknown   = errors.New("unknown profile")
	ErrDisabled  = errors.New("profile is disabled")
	ErrNotServed = errors.New("profile does not serve the operation")
	// ErrNoTarget means that the mapping that wins gives nothing: these cards are
	// not served.
	ErrNoTarget = errors.New("the mapping has no target")
)

// Request is what a profile is chosen by.
type Request struct {
	Operation string
	// Required is the one profile that will do, from a client that knows what it
	// asks for; empty = any.
	Required token.ProfileName
	// Own is the profile that the card was enrolled with, for an operation that
	// leaves its content; empty = no matter.
	Own  token.ProfileName
	Seen Seen // Seen.TokenType is a wish too: the default serves where it cannot
	// Versions reads the versions of the card's applet, where a filter asks for them
	// and Seen does not hold them; nil = they cannot be read.
	Versions func(context.Context) (AppletVersions, error)
	Default  token.ProfileName
}

// KeepsContent reports whether the card's own profile counts: the operation leaves
// the card's content, whose rules are those of the profile that it was enrolled
// with, and the client names none. A renewal takes no wish for another profile either.
func (r Request) KeepsContent() bool {
	wishes := r.Seen.TokenType != "" && r.Operation != Renewing
	return r.Required == "" && !wishes && (r.Operation == Renewing || r.Operation == ResettingPIN || r.Operation == ChangingKeys)
}

// Source says why a profile was chosen.
type Source string

// Sources, in the order in which they are asked.
const (
	ByRequest   Source = "request"
	ByCard      Source = "card"
	ByMapping   Source = "mapping"
	ByTokenType Source = "tokenType"
	ByDefault   Source = "default"
)

// Choice is the profile for an operation on a card, and how it came about.
type Choice struct {
	Profile Profile // with Keys applied
	By      Source
	Keys    Target // of the resolver of keys; zero = the profile's own
	Visits  []Visit
}

// Visit is a mapping that was looked at.
type Visit struct {
	Resolver string
	Resolves string
	Number   int // of the mapping, from 1
	Mapping  Mapping
	Miss     string // why the card does not pass; empty = the mapping wins
}

// Choose returns the profile for a request (tps-operations.md §13.6, §15): the
// required one and no other, where the client says so; else the card's own where
// it serves; else the one of the mapping that wins; else the one that the client's
// tokenType names, if it is enabled and serves the operation; else the default
// one. The keys are those of the resolver of keys, whichever the profile.
//
// It fails with [ErrUnknown], [ErrDisabled], [ErrNotServed], [ErrNoTarget], an
// error of a Decode, of r.Versions or of a store; the choice's Visits and By are
// then valid as far as they go. resolvers may be nil.
func Choose(ctx context.Context, s Store, resolvers Resolvers, r Request) (Choice, error) {
	c := chooser{store: s, req: r}
	if resolvers != nil {
		records, err := resolvers.Resolvers(ctx)
		if err != nil {
			return c.choice, fmt.Errorf("reading the mappings: %w", err)
		}
		c.records = records
	}
	p, err := c.profile(ctx)
	if err != nil {
		return c.choice, err
	}
	target, _, err := c.resolve(ctx, ResolvesKeys)
	if err != nil {
		return c.choice, err
	}
	c.choice.Keys, c.choice.Profile = target, target.Apply(p)
	return c.choice, nil
}

// chooser is one choice being made.
type chooser struct {
	store   Store
	records []ResolverRecord
	req     Request
	choice  Choice
}

func (c *chooser) profile(ctx context.Context) (Profile, error) {
	r := c.req
	if r.Required != "" {
		return c.take(ctx, ByRequest, r.Required)
	}
	if r.Own != "" {
		p, err := c.take(ctx, ByCard, r.Own)
		if err == nil || r.Operation == Renewing { // certificates by the rules of another profile are no renewal
			return p, err
		}
	}
	c.choice.By = ByMapping
	target, found, err := c.resolve(ctx, ResolvesProfile)
	if err != nil {
		return Profile{}, err
	}
	if found {
		return c.take(ctx, ByMapping, target.Profile)
	}
	if r.Seen.TokenType != "" {
		p, err := c.take(ctx, ByTokenType, token.ProfileName(r.Seen.TokenType))
		if !passes(err) {
			return p, err
		}
	}
	return c.take(ctx, ByDefault, r.Default)
}

// take loads the newest revision of a profile for the operation.
func (c *chooser) take(ctx context.Context, by Source, name token.ProfileName) (Profile, error) {
	c.choice.By = by
	return serving(ctx, c.store, name, c.req.Operation)
}

// resolve asks the resolver of the operation; found says that a mapping won. A
// target counts in the winner only, and there it has to be (DEF-54).
func (c *chooser) resolve(ctx context.Context, resolves string) (t Target, found bool, err error) {
	for _, rec := range c.records {
		r, err := rec.Decode()
		if err != nil {
			return t, false, err
		}
		if r.Resolves != resolves || !r.Serves(c.req.Operation) {
			continue
		}
		if err := c.readVersions(ctx, r); err != nil {
			return t, false, err
		}
		winner, misses := r.Winner(c.req.Seen)
		for i, miss := range misses {
			c.choice.Visits = append(c.choice.Visits, Visit{r.Name, resolves, i + 1, r.Mappings[i], miss})
		}
		if winner < 0 {
			continue
		}
		m := r.Mappings[winner]
		c.choice.Visits = append(c.choice.Visits, Visit{Resolver: r.Name, Resolves: resolves, Number: winner + 1, Mapping: m})
		if m.Target == (Target{}) {
			return t, false, fmt.Errorf("%w: mapping %d of %s", ErrNoTarget, winner+1, r.Name)
		}
		return m.Target, true, nil
	}
	return t, false, nil
}

// readVersions reads the applet's versions once, if the resolver compares them.
func (c *chooser) readVersions(ctx context.Context, r Resolver) error {
	if !r.AsksVersions() || c.req.Seen.Applet != nil || c.req.Versions == nil {
		return nil
	}
	v, err := c.req.Versions(ctx)
	if err != nil {
		return fmt.Errorf("reading the versions of the applet: %w", err)
	}
	c.req.Seen.Applet = &v
	return nil
}

// passes says whether err leaves the choice to the default profile.
func passes(err error) bool {
	return errors.Is(err, ErrUnknown) || errors.Is(err, ErrDisabled) || errors.Is(err, ErrNotServed)
}

// serving loads the newest revision of a profile for an operation.
func serving(ctx context.Context, s Store, name token.ProfileName, operation string) (Profile, error) {
	rec, err := s.Profile(ctx, name)
	switch {
	case errors.Is(err, token.ErrNotFound):
		return Profile{}, fmt.Errorf("%w %q", ErrUnknown, name)
	case err != nil:
		return Profile{}, fmt.Errorf("reading profile %s: %w", name, err)
	case rec.State != Enabled:
		return Profile{}, fmt.Errorf("%w: %s is %s", ErrDisabled, name, rec.State)
	}
	p, err := decode(s, rec)
	if err != nil {
		return Profile{}, err
	}
	if !p.Serves(operation) {
		return Profile{}, fmt.Errorf("%w: %s, %s", ErrNotServed, name, operation)
	}
	return p, nil
}

// decode decodes the record, or finds it decoded.
func decode(s Store, r Record) (Profile, error) {
	if m, ok := s.(*remembering); ok {
		return m.decode(r)
	}
	return r.Decode()
}

// remembering is a store that keeps the newest revision of each profile decoded.
type remembering struct {
	Store
	mu      sync.Mutex
	decoded map[token.ProfileName]decoded
}

type decoded struct {
	record  Record
	profile Profile
}

// Remember returns s with profiles kept decoded, for whom chooses one often. What
// Choose then returns is shared: it is not to be changed. A store that does so
// already is returned as it is.
func Remember(s Store) Store {
	if _, already := s.(*remembering); already {
		return s
	}
	return &remembering{Store: s, decoded: map[token.ProfileName]decoded{}}
}

func (m *remembering) decode(r Record) (Profile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.decoded[r.Name]; ok && d.record == r {
		return d.profile, nil
	}
	p, err := r.Decode()
	if err == nil { // as many as there are profiles
		m.decoded[r.Name] = decoded{r, p}
	}
	return p, err
}

// Decode returns the record's document, which must bear the record's name, as a
// profile with the record's revision.
func (r Record) Decode() (Profile, error) {
	p, err := Decode([]byte(r.Document))
	if err != nil {
		return Profile{}, err
	}
	if p.Name != r.Name {
		return Profile{}, fmt.Errorf("profile %s: its document is named %q", r.Name, p.Name)
	}
	p.Revision = r.Revision
	return p, nil
}
