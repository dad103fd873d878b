package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/store"
	"inkan/tps/token"
)

// addUser adds a user and returns the ETag.
func addUser(n *node, id string, roles ...string) string {
	n.t.Helper()
	list := ""
	if len(roles) > 0 {
		list = `"` + strings.Join(roles, `","`) + `"`
	}
	return n.do("POST", "/admin/users", `{"UserID": "`+id+`", "Roles": [`+list+`], "password": "grace hopper"}`).want(201).header.Get("ETag")
}

// knows reports whether the stored hash is that of a password.
func knows(n *node, id token.UserID, password string) bool {
	n.t.Helper()
	u, err := n.db.User(n.t.Context(), id)
	must(n.t, err)
	ok, err := auth.VerifyPassword(u.Hash, secret.New([]byte(password)))
	must(n.t, err)
	return ok
}

func TestUsers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a := n.do("POST", "/admin/users", `{"UserID": "ada", "FullName": "Lovelace, Ada", "Email": "ada@example.org", "UPN": "ada@corp", "Roles": ["agent"],
		"password": "gr\u00e4ce \"hopper\""}`).want(201)
	if a.header.Get("Location") != "/tps/v2/admin/users/ada" || a.header.Get("ETag") != `"1"` {
		t.Errorf("header %v", a.header)
	}
	u := decode[api.User](a)
	if u.ID != "ada" || u.UserID != "ada" || u.FullName != "Lovelace, Ada" || u.Email != "ada@example.org" || u.UPN != "ada@corp" || len(u.Roles) != 1 || u.CreateTimestamp == 0 {
		t.Errorf("got %+v", u)
	}
	if !knows(n, "ada", `gräce "hopper"`) {
		t.Error("another password is stored")
	}
	n.do("POST", "/admin/users", `{"UserID": "ada", "password": "grace hopper"}`).want(409, "there is a user ada already")
	addUser(n, "bob")
	l := decode[api.List[api.User]](n.do("GET", "/admin/users", "").want(200))
	if *l.Total != 2 || l.Entries[0].ID != "ada" || l.Entries[1].Roles == nil {
		t.Errorf("got %+v", l)
	}
	for query, rows := range map[string]int{"?filter=LOVE": 1, "?filter=bo": 1, "?size=1": 1, "?start=1&size=5": 1, "?start=7": 0} {
		if l := decode[api.List[api.User]](n.do("GET", "/admin/users"+query, "").want(200)); len(l.Entries) != rows {
			t.Errorf("%s: %d rows", query, len(l.Entries))
		}
	}
	n.do("DELETE", "/admin/users/bob", "", "If-Match", `"1"`).want(204)
	n.do("GET", "/admin/users/bob", "").want(404)
}

func TestModifyUser(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	tag := addUser(n, "ada", "admin")
	addUser(n, "second", "admin")
	n.do("PATCH", "/admin/users/ada", `{"FullName": "Ada"}`).want(428)
	n.do("PATCH", "/admin/users/ada", `{"FullName": "Ada"}`, "If-Match", `"7"`).want(412, "changed by somebody else")
	n.do("DELETE", "/admin/users/ada", "").want(428)
	n.do("DELETE", "/admin/users/ada", "", "If-Match", `"7"`).want(412)
	a := n.do("PATCH", "/admin/users/ada", `{"FullName": "Ada", "Email": "a@example.org", "Roles": ["operator"]}`, "If-Match", tag).want(200, `"FullName": "Ada"`, `"operator"`)
	n.do("PATCH", "/admin/users/ada", `{"FullName": "Eve"}`, "If-Match", tag).want(412) // seen before the change
	tag = a.header.Get("ETag")
	if !knows(n, "ada", "grace hopper") {
		t.Error("the password is gone")
	}
	n.do("PATCH", "/admin/users/ada", `{"password": "short"}`, "If-Match", tag).want(400, "shorter than 8")
	n.do("PATCH", "/admin/users/ada", `{"Email": "nobody"}`, "If-Match", tag).want(400, "mail address")
	n.do("PATCH", "/admin/users/ada", `{"UserID": "eve"}`, "If-Match", tag).want(400, "UserID")
	got := decode[api.User](n.do("PATCH", "/admin/users/ada", `{"password": "another secret"}`, "If-Match", tag).want(200))
	if got.FullName != "Ada" || got.Email != "a@example.org" || !knows(n, "ada", "another secret") {
		t.Errorf("got %+v", got)
	}
	n.do("PATCH", "/admin/users/ada", `{"UPN": "a@corp"}`, "If-Match", "*").want(200)
}

// TestLastAdministrator: neither deleting nor changing takes the last one away.
func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	addUser(n, "ada", "admin", "agent")
	addUser(n, "bob", "agent")
	n.do("DELETE", "/admin/users/ada", "", "If-Match", "*").want(409, "ada is the last administrator")
	n.do("PATCH", "/admin/users/ada", `{"Roles": []}`, "If-Match", "*").want(409, "last administrator")
	n.do("PATCH", "/admin/users/ada", `{"Roles": ["admin"]}`, "If-Match", "*").want(200)
	n.do("PATCH", "/admin/users/bob", `{"Roles": ["admin"]}`, "If-Match", "*").want(200)
	n.do("DELETE", "/admin/users/ada", "", "If-Match", "*").want(204)
	n.do("DELETE", "/admin/users/bob", "", "If-Match", "*").want(409)
}

// TestPasswordsAreNotShown looks for every password in every answer, the log at
// debug level and the audit record.
func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	var out strings.Builder
	for _, r := range [][3]string{
		{"POST", "/admin/users", `{"UserID": "ada", "Roles": ["admin"], "password": "hunter2-hunter2"}`},
		{"POST", "/admin/users", `{"UserID": "ada", "password": "hunter2-hunter2"}`},
		{"POST", "/admin/users", `{"UserID": "eve", "password": "hunter2"}`},
		{"POST", "/admin/users", `{"UserID": "e e", "password": "hunter2-hunter2"}`},
		{"POST", "/admin/users", `{"UserID": "eve", "password": ["hunter2-hunter2"]}`},
		{"POST", "/admin/users", `{"UserID": "eve", "password": "hunter2-hunter2", "more": 1}`},
		{"POST", "/admin/users", `{"UserID": "eve", "password": "hunter2-hunter2`},
		{"POST", "/admin/users", `{"UserID": "hunter2-hunter2", "password": "hunter2-hunter2"}`},
		{"PATCH", "/admin/users/ada", `{"password": "hunter2-hunter2"}`},
		{"PATCH", "/admin/users/nobody", `{"password": "hunter2-hunter2"}`},
		{"POST", "/key-backup", `{"Path": "/copy", "passphrase": "hunter2-hunter2"}`},
		{"POST", "/key-backup", `{"Path": "copy", "passphrase": "hunter2-hunter2"}`},
		{"POST", "/backup", `{"Path": "/copy", "passphrase": "hunter2-hunter2"}`},
		{"GET", "/admin/users", ""},
	} {
		out.WriteString(n.do(r[0], r[1], r[2], "If-Match", "*").body)
	}
	out.WriteString(n.log.String() + fmt.Sprintf("%+v", n.audit.all))
	text := strings.ReplaceAll(out.String(), `is the user's name`, "")
	if i := strings.Index(text, "hunter2"); i >= 0 {
		t.Errorf("a password is in …%s…", text[max(0, i-80):min(len(text), i+40)])
	}
	if !strings.Contains(text, "CONFIG_ROLE") || !strings.Contains(text, "request failed") {
		t.Error("nothing was written at all")
	}
	if u, err := n.db.User(t.Context(), "ada"); err != nil || strings.Contains(text, u.Hash) {
		t.Errorf("the hash is shown, %v", err)
	}
}

// racingUsers changes a user between the handler's read and its write.
type racingUsers struct{ *store.DB }

func (r racingUsers) ReplaceUser(ctx context.Context, u auth.User) (auth.User, error) {
	now, err := r.DB.User(ctx, u.ID)
	if err != nil {
		return u, err
	}
	now.Name = "meanwhile"
	if _, err := r.DB.ReplaceUser(ctx, now); err != nil {
		return u, err
	}
	return r.DB.ReplaceUser(ctx, u)
}

func TestConflict(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *api.Config) { c.Users = racingUsers{c.Users.(*store.DB)} })
	addUser(n, "ada", "admin")
	n.do("PATCH", "/admin/users/ada", `{"FullName": "Ada"}`, "If-Match", `"1"`).want(409, "ConflictingOperationException")
	n.do("GET", "/admin/users/ada", "").want(200, "meanwhile")
	if got := n.audit.outcomes(); got[len(got)-1] != "CONFIG_ROLE failure" {
		t.Errorf("audit %q", got)
	}
}
