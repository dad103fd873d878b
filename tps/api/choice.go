package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// ProfileChoice says which profile a card would get, and why.
type ProfileChoice struct {
	Profile    string         `json:"Profile,omitempty"`
	By         string         `json:"By"`                // request, card, mapping, tokenType, default
	Problem    string         `json:"Problem,omitempty"` // why the card would be refused
	KeySet     string         `json:"KeySet,omitempty"`
	KeyVersion int            `json:"KeyVersion,omitempty"` // 0: the card keeps its keys
	Factory    string         `json:"Factory,omitempty"`
	Applet     string         `json:"Applet,omitempty"`
	Visits     []MappingVisit `json:"Visits"` // in the order in which they were tried
}

// MappingVisit is a mapping that was tried.
type MappingVisit struct {
	Mappings string `json:"Mappings"` // the document
	Resolves string `json:"Resolves"`
	Number   int    `json:"Number"` // from 1
	Title    string `json:"Title,omitempty"`
	Target   string `json:"Target"`
	Wins     bool   `json:"Wins"`
	Why      string `json:"Why,omitempty"` // it does not
}

// choiceProblems are outcomes of a choice, not failures of asking for it.
var choiceProblems = []error{profile.ErrUnknown, profile.ErrDisabled, profile.ErrNotServed, profile.ErrNoTarget}

// chooseProfile makes the choice that a session would make, for a card that is
// described by the parameters.
func (a *api) chooseProfile(c *call) (reply, error) {
	req, err := a.choiceRequest(c)
	if err != nil {
		return reply{}, err
	}
	choice, err := profile.Choose(c.Context(), a.Profiles, a.Mappings, req)
	out := ProfileChoice{By: string(choice.By), Visits: []MappingVisit{}}
	for _, v := range choice.Visits {
		out.Visits = append(out.Visits, MappingVisit{Mappings: v.Resolver, Resolves: v.Resolves, Number: v.Number, Title: v.Mapping.Title,
			Target: v.Mapping.Target.String(), Wins: v.Miss == "", Why: v.Miss})
	}
	if slices.ContainsFunc(choiceProblems, func(p error) bool { return errors.Is(err, p) }) {
		out.Problem = err.Error()
		return reply{body: out}, nil
	}
	p := choice.Profile
	out.Profile, out.KeySet, out.KeyVersion, out.Factory, out.Applet = string(p.Name), string(p.Keys.Set), p.Keys.Version, string(p.Keys.Factory), p.Applet.Version
	return reply{body: out}, err
}

func (a *api) choiceRequest(c *call) (profile.Request, error) {
	q := profile.Request{Operation: c.param("operation"), Required: token.ProfileName(c.param("profile")), Default: a.DefaultProfile,
		Seen: profile.Seen{TokenType: c.param("tokenType"), KeySet: c.param("keySet")}}
	if !slices.Contains(profile.Operations(), q.Operation) {
		return q, badRequest("operation %q: want one of %v", q.Operation, profile.Operations())
	}
	if c.param("unmanaged") == "true" {
		q.Default = cmp.Or(a.UnmanagedProfile, q.Default)
	}
	var errs []error
	parse := func(name string, to func(string) error) {
		if v := c.param(name); v != "" {
			if err := to(v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	parse("tokenID", func(v string) error { return q.Seen.CUID.UnmarshalText([]byte(v)) })
	parse("tokenATR", func(v string) error { return q.Seen.ATR.UnmarshalText([]byte(v)) })
	parse("symKeySize", func(v string) (err error) { q.Seen.KeySize, err = strconv.Atoi(v); return err })
	applet := profile.AppletVersions{}
	parse("protocolVersion", func(v string) (err error) {
		q.Seen.Applet = &applet
		applet.ProtocolMajor, applet.ProtocolMinor, err = parseVersion(v)
		return err
	})
	parse("appletVersion", func(v string) (err error) {
		q.Seen.Applet = &applet
		applet.AppletMajor, applet.AppletMinor, err = parseVersion(v)
		return err
	})
	if err := errors.Join(errs...); err != nil {
		return q, badRequest("%v", err)
	}
	return q, a.ownProfile(c.Context(), &q)
}

// parseVersion reads MAJOR.MINOR, decimal.
func parseVersion(s string) (major, minor int, err error) {
	var rest string
	if n, _ := fmt.Sscanf(s, "%d.%d%s", &major, &minor, &rest); n != 2 {
		return 0, 0, fmt.Errorf("%q is not MAJOR.MINOR", s)
	}
	return major, minor, nil
}

// ownProfile fills in the profile that a known card was enrolled with, as a session
// does for the operations that leave its content.
func (a *api) ownProfile(ctx context.Context, q *profile.Request) error {
	if q.Seen.CUID.IsZero() || !q.KeepsContent() {
		return nil
	}
	t, err := a.Tokens.Token(ctx, q.Seen.CUID)
	if errors.Is(err, token.ErrNotFound) {
		return nil
	}
	q.Own = t.Profile
	return err
}
