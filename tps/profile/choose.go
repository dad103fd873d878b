package profile

import (
	"context"
	"errors"
	"fmt"

	"inkan/tps/token"
)

// Errors of Choose and Load.
var (
	ErrUnknown   = errors.New("unknown profile")
	ErrDisabled  = errors.New("profile is disabled")
	ErrNotServed = errors.New("profile does not serve the operation")
)

// Choose returns the profile for a request: the required one and no other, where
// the client says so; else the one that the client's tokenType names, if it is enabled and serves the operation, else the default one
// (tps-operations.md §13.6). It fails with [ErrUnknown], [ErrDisabled],
// [ErrNotServed], an error of Decode or one of the store.
func Choose(ctx context.Context, s Store, r Request, defaultName token.ProfileName) (Profile, error) {
	if r.Required != "" {
		return serving(ctx, s, r.Required, r.Operation)
	}
	if r.TokenType != "" {
		p, err := serving(ctx, s, token.ProfileName(r.TokenType), r.Operation)
		if !passes(err) {
			return p, err
		}
	}
	return serving(ctx, s, defaultName, r.Operation)
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
	p, err := rec.Decode()
	if err != nil {
		return Profile{}, err
	}
	if !p.Serves(operation) {
		return Profile{}, fmt.Errorf("%w: %s, %s", ErrNotServed, name, operation)
	}
	return p, nil
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
