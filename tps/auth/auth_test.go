package auth_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// cheap keeps tests fast; what a hash costs stands in it.
var cheap = auth.Cost{Memory: 64, Passes: 1, Lanes: 1}

// people is a Users in memory.
type people struct {
	mu  sync.Mutex
	all map[token.UserID]auth.User
	err error // of every call, if set
}

func (p *people) User(_ context.Context, id token.UserID) (auth.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok := p.all[id]
	if p.err != nil {
		return auth.User{}, p.err
	}
	if !ok {
		return auth.User{}, token.ErrNotFound
	}
	return u, nil
}

func (p *people) Users(context.Context) ([]auth.User, error) { return nil, p.err }

func (p *people) CreateUser(_ context.Context, u auth.User) (auth.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.all[u.ID]; ok {
		return auth.User{}, token.ErrConflict
	}
	if p.all == nil {
		p.all = map[token.UserID]auth.User{}
	}
	u.Revision = 1
	p.all[u.ID] = u
	return u, nil
}

func (p *people) ReplaceUser(_ context.Context, u auth.User) (auth.User, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[u.ID].Revision != u.Revision {
		return auth.User{}, token.ErrConflict
	}
	u.Revision++
	p.all[u.ID] = u
	return u, nil
}

func (p *people) DeleteUser(context.Context, token.UserID) error { return p.err }

func text(s string) secret.Secret { return secret.New([]byte(s)) }

func answers(id, password string) auth.Answers {
	return auth.Answers{auth.FieldUser: text(id), auth.FieldPassword: text(password)}
}

// withAlice returns an authenticator that knows alice.
func withAlice(t *testing.T) (*auth.Local, *people) {
	t.Helper()
	h, err := auth.HashPassword(text("correct horse"), cheap)
	if err != nil {
		t.Fatal(err)
	}
	p := &people{all: map[token.UserID]auth.User{"alice": {ID: "alice", Name: "Alice Ayer", Mail: "alice@example.org",
		UPN: "alice@corp.example", Roles: []auth.Role{auth.Agent}, Hash: h, Revision: 1}}}
	l := auth.NewLocal(p)
	return l, p
}

func TestLocalCheck(t *testing.T) {
	t.Parallel()
	l, _ := withAlice(t)
	p, err := l.Check(t.Context(), answers("alice", "correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "alice" || p.Name != "Alice Ayer" || !p.Is(auth.Agent) || p.Is(auth.Admin, auth.Operator) ||
		p.Attributes["cn"] != "Alice Ayer" || p.Attributes["mail"] != "alice@example.org" || p.UPN != "alice@corp.example" {
		t.Errorf("got %+v", p)
	}
	tests := []struct{ name, id, password string }{
		{"wrong password", "alice", "correct horsf"},
		{"case of the password", "alice", "Correct horse"},
		{"case of the id", "Alice", "correct horse"},
		{"unknown user", "bob", "correct horse"},
		{"empty password", "alice", ""},
		{"empty id", "", "correct horse"},
		{"long id", strings.Repeat("a", 256), "correct horse"},
		{"long password", "alice", strings.Repeat("a", auth.MaxPasswordBytes+1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if p, err := l.Check(t.Context(), answers(tt.id, tt.password)); !errors.Is(err, auth.ErrBadCredentials) || p.ID != "" {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	if _, err := l.Check(t.Context(), nil); !errors.Is(err, auth.ErrBadCredentials) {
		t.Errorf("no answers: %v", err)
	}
}

func TestLocalUnavailable(t *testing.T) {
	t.Parallel()
	l, p := withAlice(t)
	p.err = token.ErrUnavailable
	for range 10 { // does not count as guessing
		_, err := l.Check(t.Context(), answers("alice", "correct horse"))
		if !errors.Is(err, token.ErrUnavailable) || errors.Is(err, auth.ErrBadCredentials) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestLocalBrokenHash(t *testing.T) {
	t.Parallel()
	l, p := withAlice(t)
	u := p.all["alice"]
	u.Hash = "$argon2id$v=19$m=4294967,t=2,p=1$c2FsdHNhbHQ$dGFndGFndGFndGFndGFn"
	p.all["alice"] = u
	_, err := l.Check(t.Context(), answers("alice", "correct horse"))
	if err == nil || errors.Is(err, auth.ErrBadCredentials) {
		t.Errorf("got %v", err)
	}
}

func TestLocalThrottles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the wait of a second does not end while a slow machine compares passwords
		l, _ := withAlice(t)
		for i := range 4 {
			for _, id := range []string{"alice", "nobody"} {
				if _, err := l.Check(t.Context(), answers(id, "wrong password")); !errors.Is(err, auth.ErrBadCredentials) {
					t.Fatalf("answer %d of %s: %v", i+1, id, err)
				}
			}
		}
		for _, id := range []string{"alice", "nobody"} { // nobody can tell which exists
			if _, err := l.Check(t.Context(), answers(id, "correct horse")); !errors.Is(err, auth.ErrThrottled) {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
}

// TestUnknownUserTakesAsLong compares with a hash of the default cost.
func TestUnknownUserTakesAsLong(t *testing.T) {
	p := &people{}
	if _, err := auth.Create(t.Context(), p, auth.User{ID: "alice"}, text("correct horse")); err != nil {
		t.Fatal(err)
	}
	l := auth.NewLocal(p)
	took := func(id string) time.Duration {
		best := time.Hour
		for range 2 {
			start := time.Now()
			if _, err := l.Check(t.Context(), answers(id, "wrong password")); !errors.Is(err, auth.ErrBadCredentials) {
				t.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	known, unknown := took("alice"), took("bob")
	if unknown < known/8 { // without a computation it would be thousands
		t.Errorf("unknown user %v, known %v", unknown, known)
	}
}

func TestForm(t *testing.T) {
	t.Parallel()
	l, _ := withAlice(t)
	f := l.Form("xx")
	if len(f.Fields) != 2 || f.Fields[0].ID != "UID" || f.Fields[0].Secret || f.Fields[1].ID != "PASSWORD" || !f.Fields[1].Secret ||
		f.Title == "" || f.Fields[0].Name == "" || f.Fields[1].Name == "" {
		t.Errorf("got %+v", f)
	}
}

// TestDEF64: whatever locale a client names, there is a form in words: the English
// one where there is no other.
func TestDEF64(t *testing.T) {
	t.Parallel()
	l, _ := withAlice(t)
	english := l.Form("en")
	for _, locale := range []string{"", "xx", "en_US", "de-CH-1996", "(null)", "../../etc", strings.Repeat("x", 10_000), "\x00\xff"} {
		if f := l.Form(locale); !reflect.DeepEqual(f, english) {
			t.Errorf("locale %.20q: %+v", locale, f)
		}
	}
	for _, f := range english.Fields {
		if f.Name == "" || f.Description == "" || f.Description == english.Title {
			t.Errorf("question %+v", f)
		}
	}
}

func TestHashPassword(t *testing.T) {
	t.Parallel()
	h, err := auth.HashPassword(text("pässword"), cheap)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Errorf("got %s", h)
	}
	other, err := auth.HashPassword(text("pässword"), cheap)
	if err != nil || other == h {
		t.Errorf("same salt twice: %s, %v", other, err)
	}
	for password, want := range map[string]bool{"pässword": true, "passwort": false, "": false} {
		if got, err := auth.VerifyPassword(h, text(password)); err != nil || got != want {
			t.Errorf("%q: %t, %v", password, got, err)
		}
	}
	for _, c := range []auth.Cost{{Memory: 64, Passes: 1}, {Memory: 7, Passes: 1, Lanes: 1}, {Memory: 64, Lanes: 1},
		{Memory: 1<<20 + 1, Passes: 1, Lanes: 1}, {Memory: 64, Passes: 33, Lanes: 1}} {
		if _, err := auth.HashPassword(text("password"), c); err == nil {
			t.Errorf("cost %+v is taken", c)
		}
	}
}

// TestVerifyForeignHash takes a vector of the reference implementation
// (phc-winner-argon2, test.c: t=2, m=2^16, p=1, "password", "somesalt").
func TestVerifyForeignHash(t *testing.T) {
	t.Parallel()
	const h = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := auth.VerifyPassword(h, text("password")); err != nil || !ok {
		t.Errorf("got %t, %v", ok, err)
	}
}

func TestVerifyRefusesBrokenHashes(t *testing.T) {
	t.Parallel()
	const good = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if _, err := auth.VerifyPassword(good, text("x")); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{good, ""}, {"argon2id", "argon2i"}, {"v=19", "v=16"}, {"m=64", "m=x"}, {"m=64", "m=9999999999"},
		{"m=64", "m=2000000"}, {"t=1", "t=0"}, {"t=1", "t=99"}, {"p=1", "p=256"}, {"p=1", "p=0"}, {"c29tZXNhbHQ", ""}, {"c29tZXNhbHQ", "!"},
		{"CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "CTFh"}, {"$argon2id", "argon2id"}, {"PPc", "PPc$"}} {
		if _, err := auth.VerifyPassword(strings.Replace(good, change[0], change[1], 1), text("x")); err == nil {
			t.Errorf("%q for %q is taken", change[1], change[0])
		}
	}
}

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	for password, ok := range map[string]bool{"12345678": true, "äöüäöüäö": true, "1234567": false, "äöüäöüä": false, "": false,
		"charlotte": false, "CharlottE": false, "charlotte2": true, "abc\xffdefgh": false,
		strings.Repeat("x", auth.MaxPasswordBytes): true, strings.Repeat("x", auth.MaxPasswordBytes+1): false} {
		err := auth.CheckPassword(text(password), "charlotte")
		if (err == nil) != ok || err != nil && !errors.Is(err, auth.ErrPassword) {
			t.Errorf("%d bytes: %v", len(password), err)
		}
		if err != nil && password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("%v shows the password", err)
		}
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	p := &people{}
	ctx := t.Context()
	u := auth.User{ID: "carol", Name: "Carol", Roles: []auth.Role{auth.Admin}}
	created, err := auth.Create(ctx, p, u, text("first password"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(created.Hash, "$argon2id$v=19$m=65536,t=2,p=1$") {
		t.Errorf("hash %s", created.Hash)
	}
	if _, err := auth.Create(ctx, p, u, text("first password")); !errors.Is(err, token.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	if _, err := auth.Create(ctx, p, auth.User{ID: "dora", Name: "Dora"}, text("short")); !errors.Is(err, auth.ErrPassword) {
		t.Errorf("short: %v", err)
	}
	for password, want := range map[string]bool{"first password": true, "second password": false} {
		if got, err := auth.VerifyPassword(p.all["carol"].Hash, text(password)); err != nil || got != want {
			t.Errorf("%s: %t, %v", password, got, err)
		}
	}
}

func TestUserCheck(t *testing.T) {
	t.Parallel()
	good := auth.User{ID: "a.b-c_d@e", Name: "Ärzte & Söhne", Mail: "a@example.org", UPN: "a@corp", Roles: auth.Roles}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*auth.User){
		"empty id":     func(u *auth.User) { u.ID = "" },
		"space in id":  func(u *auth.User) { u.ID = "a b" },
		"comma in id":  func(u *auth.User) { u.ID = "a,b" },
		"homoglyph":    func(u *auth.User) { u.ID = "аlice" },
		"long id":      func(u *auth.User) { u.ID = token.UserID(strings.Repeat("a", 65)) },
		"newline":      func(u *auth.User) { u.Name = "a\nb" },
		"long name":    func(u *auth.User) { u.Name = strings.Repeat("a", 256) },
		"mail":         func(u *auth.User) { u.Mail = "nobody" },
		"display mail": func(u *auth.User) { u.Mail = "A <a@example.org>" },
		"UPN":          func(u *auth.User) { u.UPN = "nobody" },
		"empty UPN":    func(u *auth.User) { u.UPN = "@corp" },
		"role":         func(u *auth.User) { u.Roles = []auth.Role{"root"} },
		"role twice":   func(u *auth.User) { u.Roles = []auth.Role{auth.Agent, auth.Agent} },
	} {
		u := good
		change(&u)
		if err := u.Check(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := auth.Create(t.Context(), &people{}, u, text("password")); err == nil {
			t.Errorf("%s: created", name)
		}
	}
}

func TestThrottleDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var th auth.Throttle
		wrong := func() error { return auth.ErrBadCredentials }
		try := func(key string, check func() error) error { return th.Do(t.Context(), key, check) }
		for range 3 {
			if err := try("a", wrong); !errors.Is(err, auth.ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			if err := try("a", wrong); !errors.Is(err, auth.ErrBadCredentials) {
				t.Fatalf("before a wait of %d s: %v", wait, err)
			}
			time.Sleep(wait*time.Second - time.Millisecond)
			if err := try("a", wrong); !errors.Is(err, auth.ErrThrottled) {
				t.Fatalf("within %d s: %v", wait, err)
			}
			time.Sleep(time.Millisecond)
		}
		if err := try("b", wrong); !errors.Is(err, auth.ErrBadCredentials) {
			t.Errorf("another key: %v", err)
		}
		if err := try("a", func() error { return nil }); err != nil {
			t.Errorf("right: %v", err)
		}
		for i := range 4 { // forgotten after a right answer
			if err := try("a", wrong); !errors.Is(err, auth.ErrBadCredentials) {
				t.Errorf("wrong answer %d after a right one: %v", i+1, err)
			}
		}
		time.Sleep(time.Hour + time.Second)
		for i := range 4 { // and after an hour
			if err := try("a", wrong); !errors.Is(err, auth.ErrBadCredentials) {
				t.Errorf("wrong answer %d after an hour: %v", i+1, err)
			}
		}
		if err := try("a", wrong); !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("fifth: %v", err)
		}
	})
}

func TestThrottleOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the wait of a second does not end while they guess
		var th auth.Throttle
		var guessed, throttled atomic.Int32
		var wg sync.WaitGroup
		for range 50 { // fifty guesses at once are not fifty free ones
			wg.Go(func() {
				err := th.Do(t.Context(), "a", func() error { guessed.Add(1); return auth.ErrBadCredentials })
				if errors.Is(err, auth.ErrThrottled) {
					throttled.Add(1)
				}
			})
		}
		wg.Wait()
		if guessed.Load() != 4 || throttled.Load() != 46 {
			t.Errorf("%d guesses, %d throttled", guessed.Load(), throttled.Load())
		}
	})
}

func TestThrottleCancelled(t *testing.T) {
	t.Parallel()
	var th auth.Throttle
	ctx, cancel := context.WithCancel(t.Context())
	err := th.Do(t.Context(), "a", func() error {
		cancel()
		return th.Do(ctx, "a", func() error { t.Error("ran"); return nil })
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestThrottleFlood: names that nobody has do not free one that waits.
func TestThrottleFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		th := auth.Throttle{First: time.Hour, Most: time.Hour}
		wrong := func() error { return auth.ErrBadCredentials }
		for range 4 {
			th.Do(t.Context(), "victim", wrong)
		}
		for i := range 10_500 {
			th.Do(t.Context(), fmt.Sprint(i), wrong)
		}
		if err := th.Do(t.Context(), "victim", wrong); !errors.Is(err, auth.ErrThrottled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestParseRole(t *testing.T) {
	t.Parallel()
	for _, r := range auth.Roles {
		if got, err := auth.ParseRole(string(r)); err != nil || got != r {
			t.Errorf("%s: %s, %v", r, got, err)
		}
	}
	if _, err := auth.ParseRole("Admin"); err == nil {
		t.Error("Admin is a role")
	}
	if !slices.Equal(auth.Roles, []auth.Role{"admin", "agent", "operator"}) {
		t.Errorf("roles %v", auth.Roles)
	}
}

func FuzzHashNoPanic(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, h string) {
		if !strings.Contains(h, "m=64,t=1,p=1$") { // others only cost time
			return
		}
		if ok, err := auth.VerifyPassword(h, text("no such password")); ok || err == nil && !strings.HasPrefix(h, "$argon2id$") {
			t.Errorf("%q: %t, %v", h, ok, err)
		}
	})
}

func Example() {
	users := &people{}
	ctx := context.Background()
	if _, err := auth.Create(ctx, users, auth.User{ID: "dora", Name: "Dora"}, text("a long password")); err != nil {
		fmt.Println(err)
	}
	local := auth.NewLocal(users)
	_, err := local.Check(ctx, answers("dora", "another password"))
	fmt.Println(err)
	p, err := local.Check(ctx, answers("dora", "a long password"))
	fmt.Println(p.Name, err)
	// Output:
	// user name or password is wrong
	// Dora <nil>
}
