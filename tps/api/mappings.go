package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
