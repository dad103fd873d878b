package profile_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// shelf is a Store of newest revisions in memory.
type shelf struct {
	profile.Store
	all map[token.ProfileName]profile.Record
	err error
}

func (s shelf) Profile(_ context.Context, name token.ProfileName) (profile.Record, error) {
	if s.err != nil {
		return profile.Record{}, s.err
	}
	r, ok := s.all[name]
	if !ok {
		return profile.Record{}, token.ErrNotFound
	}
	return r, nil
}

func TestChoose(t *testing.T) {
	t.Parallel()
	s := shelf{all: map[token.ProfileName]profile.Record{}}
	for _, r := range profile.Shipped(false) {
		r.Revision = 5
		s.all[r.Name] = r
	}
	put := func(name token.ProfileName, state profile.State, document string) {
		s.all[name] = profile.Record{Name: name, State: state, Document: document}
	}
	named := func(name string) string { return strings.Replace(minimal, `"card"`, `"`+name+`"`, 1) }
	put("off", profile.Disabled, named("off"))
	put("waiting", profile.Pending, named("waiting"))
	put("broken", profile.Enabled, "name = ")
	put("alias", profile.Enabled, named("card"))
	tests := []struct {
		name, operation, tokenType string
		standard                   token.ProfileName
		want                       token.ProfileName
		err                        error
	}{
		{"default", "enroll", "", "userKey", "userKey", nil},
		{"named", "enroll", "soKey", "userKey", "soKey", nil},
		{"named is unknown", "enroll", "none", "userKey", "userKey", nil},
		{"named is disabled", "enroll", "off", "userKey", "userKey", nil},
		{"named does not serve", "enroll", "tokenKey", "userKey", "userKey", nil},
		{"named serves", "format", "tokenKey", "userKey", "tokenKey", nil},
		{"default is unknown", "enroll", "", "none", "", profile.ErrUnknown},
		{"default is disabled", "enroll", "", "off", "", profile.ErrDisabled},
		{"default is pending", "enroll", "none", "waiting", "", profile.ErrDisabled},
		{"default does not serve", "enroll", "", "tokenKey", "", profile.ErrNotServed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := profile.Choose(t.Context(), s, nil, profile.Request{Operation: tt.operation, Seen: profile.Seen{TokenType: tt.tokenType}, Default: tt.standard})
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) || c.Profile.Name != tt.want {
				t.Errorf("got %q, %v; want %q, %v", c.Profile.Name, err, tt.want, tt.err)
			}
			if err == nil && c.Profile.Revision != 5 {
				t.Errorf("revision %d", c.Profile.Revision)
			}
		})
	}
	for _, name := range []string{"broken", "alias"} { // a fault of the node, not of the client
		c, err := profile.Choose(t.Context(), s, nil, profile.Request{Operation: "enroll", Seen: profile.Seen{TokenType: name}, Default: "userKey"})
		if err == nil || errors.Is(err, profile.ErrUnknown) || errors.Is(err, profile.ErrDisabled) || errors.Is(err, profile.ErrNotServed) {
			t.Errorf("%s: %q, %v", name, c.Profile.Name, err)
		}
	}
	_, err := profile.Choose(t.Context(), shelf{err: token.ErrUnavailable}, nil, profile.Request{Operation: "enroll", Seen: profile.Seen{TokenType: "soKey"}, Default: "userKey"})
	if !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
