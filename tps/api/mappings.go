package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"inkan/tks"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// ProfileMapping is a stored document of mappings: Dogtag's ProfileMappingData
// (tps-rest-api.md §3.5), which is a mapping resolver, with the document in place
// of its properties. It serves as long as it is there.
type ProfileMapping struct {
	ID               string        `json:"id"`
	ProfileMappingID string        `json:"ProfileMappingID"`
	Status           string        `json:"Status"` // Enabled
	Title            string        `json:"Title,omitempty"`
	Operations       []string      `json:"Operations"`
	Resolves         string        `json:"Resolves"` // profile, keys
	Mappings         []MappingLine `json:"Mappings"` // in the order in which they are tried
	Revision         int           `json:"Revision"` // the ETag holds it too
	Warnings         []string      `json:"Warnings,omitempty"`
	Problem          string        `json:"Problem,omitempty"`  // why the document can no longer be read
	Document         string        `json:"Document,omitempty"` // TOML as written; not in lists
	CreateTimestamp  Millis        `json:"CreateTimestamp"`
	ModifyTimestamp  Millis        `json:"ModifyTimestamp"`
}

// MappingLine is one mapping of a document.
type MappingLine struct {
	Title  string `json:"Title,omitempty"`
	Filter string `json:"Filter"`
	Target string `json:"Target"`
}

func describeMapping(rec profile.ResolverRecord) ProfileMapping {
	out := ProfileMapping{ID: rec.Name, ProfileMappingID: rec.Name, Status: "Enabled", Operations: []string{}, Mappings: []MappingLine{},
		Revision: rec.Revision, CreateTimestamp: millis(rec.Created), ModifyTimestamp: millis(rec.Modified)}
	r, err := rec.Decode()
	if err != nil {
		out.Problem = err.Error()
		return out
	}
	out.Title, out.Operations, out.Resolves, out.Warnings = r.Title, r.Operations, r.Resolves, r.Warnings
	for _, m := range r.Mappings {
		out.Mappings = append(out.Mappings, MappingLine{Title: m.Title, Filter: m.Filter.String(), Target: m.Target.String()})
	}
	return out
}

func wholeMapping(r profile.ResolverRecord) ProfileMapping {
	out := describeMapping(r)
	out.Document = r.Document
	return out
}

func (a *api) listMappings(c *call) (reply, error) {
	all, err := a.Mappings.Resolvers(c.Context())
	if err != nil {
		return reply{}, err
	}
	total := len(all)
	out := List[ProfileMapping]{Total: &total, Entries: make([]ProfileMapping, 0, total)}
	for _, r := range all {
		out.Entries = append(out.Entries, describeMapping(r))
	}
	return reply{body: out}, nil
}

// mapping finds the document of the path.
func (a *api) mapping(c *call) (profile.ResolverRecord, error) {
	name := c.PathValue("id")
	r, err := a.Mappings.Resolver(c.Context(), name)
	return r, missing(err, "there are no mappings %s", name)
}

func (a *api) showMapping(c *call) (reply, error) {
	r, err := a.mapping(c)
	return reply{body: wholeMapping(r), revision: int64(r.Revision)}, err
}

// putMapping takes a document as a whole or not at all: what it names is there, and
// no other document answers the same question. It counts from the next session on.
func (a *api) putMapping(c *call) (reply, error) {
	a.mappings.Lock()
	defer a.mappings.Unlock()
	var in ProfileDocument
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	next := profile.ResolverRecord{Name: c.PathValue("id"), Document: in.Document}
	r, err := next.Decode()
	if err != nil {
		return reply{}, badRequest("%v", err)
	}
	was, err := a.Mappings.Resolver(c.Context(), next.Name)
	isNew := errors.Is(err, token.ErrNotFound)
	switch {
	case isNew:
		err = c.matchesNothing()
	case err == nil:
		next.Revision = was.Revision
		err = c.matches(int64(was.Revision))
	}
	if err == nil {
		err = errors.Join(a.targetsExist(c.Context(), r), a.asksAlone(c.Context(), r))
	}
	if err != nil {
		return reply{}, err
	}
	if !isNew && was.Document == next.Document {
		return reply{body: wholeMapping(was), revision: int64(was.Revision)}, nil
	}
	if err := a.intendMapping(c, "set", next.Name, next.Revision+1, next.Document); err != nil {
		return reply{}, err
	}
	if next, err = a.Mappings.PutResolver(c.Context(), next); err != nil {
		return reply{}, err
	}
	out := reply{body: wholeMapping(next), revision: int64(next.Revision)}
	if isNew {
		out.status, out.location = http.StatusCreated, "/profile-mappings/"+next.Name
	}
	return out, nil
}

// targetsExist refuses mappings to profiles and key sets that there are not.
func (a *api) targetsExist(ctx context.Context, r profile.Resolver) error {
	sets, err := a.KeySets.KeySets(ctx)
	if err != nil {
		return err
	}
	for i, m := range r.Mappings {
		if p := m.Target.Profile; p != "" {
			if _, err := a.Profiles.Profile(ctx, p); err != nil {
				if errors.Is(err, token.ErrNotFound) {
					return badRequest("mapping %d: there is no profile %s", i+1, p)
				}
				return err
			}
		}
		for _, set := range []tks.KeySetName{m.Target.KeySet, m.Target.Factory} {
			if set != "" && set != tks.Factory && !slices.ContainsFunc(sets, func(s KeySet) bool { return s.Name == string(set) }) {
				return badRequest("mapping %d: there is no key set %s", i+1, set)
			}
		}
	}
	return nil
}

// asksAlone refuses a second document for the same operation.
func (a *api) asksAlone(ctx context.Context, r profile.Resolver) error {
	all, err := a.Mappings.Resolvers(ctx)
	if err != nil {
		return err
	}
	for _, rec := range all {
		other, err := rec.Decode()
		if err != nil || other.Name == r.Name || other.Resolves != r.Resolves {
			continue
		}
		for _, op := range r.Operations {
			if other.Serves(op) {
				return refuse(http.StatusConflict, "the mappings %s resolve the %s for %s already: one document decides", other.Name, r.Resolves, op)
			}
		}
	}
	return nil
}

func (a *api) deleteMapping(c *call) (reply, error) {
	r, err := a.mapping(c)
	if err != nil {
		return reply{}, err
	}
	if err := c.matches(int64(r.Revision)); err != nil {
		return reply{}, err
	}
	if err := a.intendMapping(c, "delete", r.Name, r.Revision, r.Document); err != nil {
		return reply{}, err
	}
	return reply{}, a.Mappings.DeleteResolver(c.Context(), r.Name, r.Revision)
}

func (a *api) intendMapping(c *call, op, name string, revision int, document string) error {
	digest := sha256.Sum256([]byte(document))
	return a.intend(c, map[string]string{"op": op, "mappings": name, "revision": strconv.Itoa(revision), "sha256": hex.EncodeToString(digest[:])})
}

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
