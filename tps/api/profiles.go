package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"

	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Profile is a stored profile: Dogtag's ProfileData (tps-rest-api.md §3.5) with
// the document in place of its properties.
type Profile struct {
	ID              string   `json:"id"`
	ProfileID       string   `json:"ProfileID"`
	Status          string   `json:"Status"` // Enabled, Disabled, Pending_Approval
	Title           string   `json:"Title,omitempty"`
	Operations      []string `json:"Operations"`
	Revision        int      `json:"Revision"`           // the ETag holds it too
	Problem         string   `json:"Problem,omitempty"`  // why the document can no longer be read
	Document        string   `json:"Document,omitempty"` // TOML as written; not in lists
	CreateTimestamp Millis   `json:"CreateTimestamp"`
	ModifyTimestamp Millis   `json:"ModifyTimestamp"`
}

// ProfileDocument is the body of PUT profiles/{id} and profile-mappings/{id}.
type ProfileDocument struct {
	Document string `json:"Document"`
}

// profileStates are Dogtag's names of the states.
var profileStates = map[profile.State]string{
	profile.Enabled: "Enabled", profile.Disabled: "Disabled", profile.Pending: "Pending_Approval",
}

func describeProfile(r profile.Record) Profile {
	out := Profile{ID: string(r.Name), ProfileID: string(r.Name), Status: profileStates[r.State], Operations: []string{},
		Revision: r.Revision, CreateTimestamp: millis(r.Created), ModifyTimestamp: millis(r.Modified)}
	p, err := r.Decode()
	if err != nil {
		out.Problem = err.Error()
		return out
	}
	out.Title, out.Operations = p.Title, p.Operations
	return out
}

func wholeProfile(r profile.Record) Profile {
	out := describeProfile(r)
	out.Document = r.Document
	return out
}

func (a *api) listProfiles(c *call) (reply, error) {
	all, err := a.Profiles.Profiles(c.Context())
	if err != nil {
		return reply{}, err
	}
	total := len(all)
	out := List[Profile]{Total: &total, Entries: make([]Profile, 0, total)}
	for _, r := range all {
		out.Entries = append(out.Entries, describeProfile(r))
	}
	return reply{body: out}, nil
}

// profile finds the newest revision of the profile of the path.
func (a *api) profile(c *call) (profile.Record, error) {
	name := c.PathValue("id")
	r, err := a.Profiles.Profile(c.Context(), token.ProfileName(name))
	return r, missing(err, "there is no profile %s", name)
}

func (a *api) showProfile(c *call) (reply, error) {
	r, err := a.profile(c)
	return reply{body: wholeProfile(r), revision: int64(r.Revision)}, err
}

// putProfile takes a document as a new revision. A new profile is disabled; what
// somebody writes who may not approve it serves only when an agent enables it
// (tps-rest-api.md §3.5). Operations under way are finished with the old revision.
func (a *api) putProfile(c *call) (reply, error) {
	var in ProfileDocument
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	next := profile.Record{Name: token.ProfileName(c.PathValue("id")), State: profile.Disabled, Document: in.Document}
	if _, err := next.Decode(); err != nil {
		return reply{}, badRequest("%v", err)
	}
	was, err := a.Profiles.Profile(c.Context(), next.Name)
	isNew := errors.Is(err, token.ErrNotFound)
	switch {
	case isNew:
		err = c.matchesNothing()
	case err == nil:
		next.Revision, next.State = was.Revision, was.State
		err = c.matches(int64(was.Revision))
	}
	if err != nil {
		return reply{}, err
	}
	if next.State == profile.Enabled && !c.who.is(auth.Agent) {
		next.State = profile.Pending
	}
	if !isNew && was.Document == next.Document {
		return reply{body: wholeProfile(was), revision: int64(was.Revision)}, nil
	}
	out, err := a.storeProfile(c, "set", next)
	if isNew && err == nil {
		out.status, out.location = http.StatusCreated, "/profiles/"+string(next.Name)
	}
	return out, err
}

// matchesNothing refuses If-Match for what is not there.
func (c *call) matchesNothing() error {
	if c.Header.Get("If-Match") == "" {
		return nil
	}
	return refuse(http.StatusPreconditionFailed, "it is not there any more: read the list again")
}

// profileActions are the actions of POST profiles/{id} and the states they lead to.
var profileActions = map[string]profile.State{"enable": profile.Enabled, "disable": profile.Disabled}

func (a *api) changeProfileState(c *call) (reply, error) {
	action := c.param("action")
	state, ok := profileActions[action]
	if !ok {
		return reply{}, badRequest("action %q: want enable or disable", action)
	}
	r, err := a.profile(c)
	if err != nil {
		return reply{}, err
	}
	if err := c.matches(int64(r.Revision)); err != nil {
		return reply{}, err
	}
	if r.State == state {
		return reply{body: wholeProfile(r), revision: int64(r.Revision)}, nil
	}
	if state == profile.Enabled {
		if !c.who.is(auth.Agent) {
			return reply{}, refuse(http.StatusForbidden, "that needs the role %s: who enables a profile approves it", auth.Agent)
		}
		if _, err := r.Decode(); err != nil {
			return reply{}, refuse(http.StatusConflict, "the profile cannot be enabled: %v", err)
		}
	}
	r.State = state
	return a.storeProfile(c, action, r)
}

// storeProfile audits and stores a new revision of r, whose number is the one read.
func (a *api) storeProfile(c *call, op string, r profile.Record) (reply, error) {
	digest := sha256.Sum256([]byte(r.Document))
	err := a.intend(c, map[string]string{"op": op, "profile": string(r.Name), "revision": strconv.Itoa(r.Revision + 1),
		"state": string(r.State), "sha256": hex.EncodeToString(digest[:])})
	if err != nil {
		return reply{}, err
	}
	if r, err = a.Profiles.PutProfile(c.Context(), r); err != nil {
		return reply{}, err
	}
	return reply{body: wholeProfile(r), revision: int64(r.Revision)}, nil
}
