package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// User is a local user: Dogtag's UserData (tps-rest-api.md §3.8) with UPN and
// roles besides, without the password.
type User struct {
	ID              string      `json:"id"`
	UserID          string      `json:"UserID"`
	FullName        string      `json:"FullName,omitempty"`
	Email           string      `json:"Email,omitempty"`
	UPN             string      `json:"UPN,omitempty"`
	Roles           []auth.Role `json:"Roles"`
	CreateTimestamp Millis      `json:"CreateTimestamp"`
	ModifyTimestamp Millis      `json:"ModifyTimestamp"`
}

// NewUser is the body of POST admin/users but for its password, which
// [EncodeSecret] adds as "password".
type NewUser struct {
	UserID   string      `json:"UserID"`
	FullName string      `json:"FullName,omitempty"`
	Email    string      `json:"Email,omitempty"`
	UPN      string      `json:"UPN,omitempty"`
	Roles    []auth.Role `json:"Roles,omitempty"`
}

func describeUser(u auth.User) User {
	out := User{ID: string(u.ID), UserID: string(u.ID), FullName: u.Name, Email: u.Mail, UPN: u.UPN, Roles: u.Roles,
		CreateTimestamp: millis(u.Created), ModifyTimestamp: millis(u.Modified)}
	if out.Roles == nil {
		out.Roles = []auth.Role{}
	}
	return out
}

func (a *api) listUsers(c *call) (reply, error) {
	p, err := c.page()
	if err != nil {
		return reply{}, err
	}
	all, err := a.Users.Users(c.Context())
	if err != nil {
		return reply{}, err
	}
	if text := strings.ToLower(c.param("filter")); text != "" {
		all = slices.DeleteFunc(all, func(u auth.User) bool {
			return !strings.Contains(strings.ToLower(string(u.ID)+"\n"+u.Name), text)
		})
	}
	total := len(all)
	out := List[User]{Total: &total, Entries: []User{}}
	for _, u := range all[min(p.start, total):min(p.start+p.size, total)] {
		out.Entries = append(out.Entries, describeUser(u))
	}
	return reply{body: out}, nil
}

// user finds the user of the path.
func (a *api) user(c *call) (auth.User, error) {
	id := c.PathValue("id")
	u, err := a.Users.User(c.Context(), token.UserID(id))
	return u, missing(err, "there is no user %s", id)
}

func (a *api) showUser(c *call) (reply, error) {
	u, err := a.user(c)
	return reply{body: describeUser(u), revision: u.Revision}, err
}

func (a *api) addUser(c *call) (reply, error) {
	var in struct {
		NewUser
		Password Text `json:"password"`
	}
	defer func() { in.Password.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	u := auth.User{ID: token.UserID(in.UserID), Name: in.FullName, Mail: in.Email, UPN: in.UPN, Roles: in.Roles}
	if err := checkUser(u, &in.Password.Secret); err != nil {
		return reply{}, err
	}
	if err := a.intend(c, map[string]string{"op": "add", "user": in.UserID, "roles": names(u.Roles)}); err != nil {
		return reply{}, err
	}
	u, err := auth.Create(c.Context(), a.Users, u, in.Password.Secret)
	if errors.Is(err, token.ErrConflict) {
		return reply{}, &Error{Status: http.StatusConflict, Message: "there is a user " + in.UserID + " already", Err: err}
	}
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: describeUser(u), revision: u.Revision, location: "/admin/users/" + string(u.ID)}, nil
}

// checkUser refuses what the caller has to correct; a nil password is not given.
func checkUser(u auth.User, password *secret.Secret) error {
	if err := u.Check(); err != nil {
		return badRequest("%v", err)
	}
	if password == nil {
		return nil
	}
	return auth.CheckPassword(*password, string(u.ID))
}

// userChange is the body of PATCH admin/users/{id}: what is absent stays.
type userChange struct {
	FullName *string      `json:"FullName"`
	Email    *string      `json:"Email"`
	UPN      *string      `json:"UPN"`
	Roles    *[]auth.Role `json:"Roles"`
	Password *Text        `json:"password"`
}

func (ch userChange) wipe() {
	if ch.Password != nil {
		ch.Password.Wipe()
	}
}

// apply changes u but for the password.
func (ch userChange) apply(u auth.User) auth.User {
	for field, value := range map[*string]*string{&u.Name: ch.FullName, &u.Mail: ch.Email, &u.UPN: ch.UPN} {
		if value != nil {
			*field = *value
		}
	}
	if ch.Roles != nil {
		u.Roles = *ch.Roles
	}
	return u
}

// names lists what is changed, for the audit record.
func (ch userChange) names() string {
	var changed []string
	for name, set := range map[string]bool{"FullName": ch.FullName != nil, "Email": ch.Email != nil, "UPN": ch.UPN != nil,
		"Roles": ch.Roles != nil, "password": ch.Password != nil} {
		if set {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return strings.Join(changed, ",")
}

func (a *api) modifyUser(c *call) (reply, error) {
	var in userChange
	defer func() { in.wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	a.people.Lock()
	defer a.people.Unlock()
	was, err := a.user(c)
	if err != nil {
		return reply{}, err
	}
	if err := c.matches(was.Revision); err != nil {
		return reply{}, err
	}
	u := in.apply(was)
	if err := checkUser(u, in.password()); err != nil {
		return reply{}, err
	}
	if slices.Contains(was.Roles, auth.Admin) && !slices.Contains(u.Roles, auth.Admin) {
		if err := a.keepAdmin(c, was.ID); err != nil {
			return reply{}, err
		}
	}
	if err := a.intend(c, map[string]string{"op": "modify", "user": string(u.ID), "changed": in.names(), "roles": names(u.Roles)}); err != nil {
		return reply{}, err
	}
	if in.Password != nil {
		if u.Hash, err = auth.HashPassword(in.Password.Secret, auth.Cost{}); err != nil {
			return reply{}, err
		}
	}
	if u, err = a.Users.ReplaceUser(c.Context(), u); err != nil {
		return reply{}, err
	}
	return reply{body: describeUser(u), revision: u.Revision}, nil
}

func (ch userChange) password() *secret.Secret {
	if ch.Password == nil {
		return nil
	}
	return &ch.Password.Secret
}

// matches asks for the revision that the caller has seen (RFC 9110 §13.1.1).
func (c *call) matches(revision int64) error {
	switch c.Header.Get("If-Match") {
	case etag(revision), "*":
		return nil
	case "":
		return refuse(http.StatusPreconditionRequired, "If-Match has to name the ETag that was read")
	}
	return refuse(http.StatusPreconditionFailed, "it was changed by somebody else in the meantime: read it again")
}

func (a *api) deleteUser(c *call) (reply, error) {
	a.people.Lock()
	defer a.people.Unlock()
	u, err := a.user(c)
	if err != nil {
		return reply{}, err
	}
	if err := c.matches(u.Revision); err != nil {
		return reply{}, err
	}
	if slices.Contains(u.Roles, auth.Admin) {
		if err := a.keepAdmin(c, u.ID); err != nil {
			return reply{}, err
		}
	}
	if err := a.intend(c, map[string]string{"op": "delete", "user": string(u.ID)}); err != nil {
		return reply{}, err
	}
	return reply{}, a.Users.DeleteUser(c.Context(), u.ID)
}

// keepAdmin refuses to lose the last administrator. It is called under a.people.
func (a *api) keepAdmin(c *call, leaving token.UserID) error {
	all, err := a.Users.Users(c.Context())
	if err != nil {
		return err
	}
	for _, u := range all {
		if u.ID != leaving && slices.Contains(u.Roles, auth.Admin) {
			return nil
		}
	}
	return refuse(http.StatusConflict, "%s is the last administrator: make another one first", leaving)
}
