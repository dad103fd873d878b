package profile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/tps/profile"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	values := map[string]string{"userid": "alice", "cuid": "4090", "pretty_cuid": "40-90", "msn": "00000001", "profileId": "userKey",
		"auth.cn": "Alice $userid$", "auth.mail": "a@b", "auth.empty": ""}
	for pattern, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"$auth.cn$":                   "Alice $userid$", // once only
		"$USERID$ $ProfileID$":        "alice userKey",
		"$cuid$$msn$":                 "409000000001",
		"($pretty_cuid$)":             "(40-90)",
		"5 $$ for $auth.mail$ $$$$":   "5 $ for a@b $$",
		"signing key for $userid$":    "signing key for alice",
		"$auth.cn$$$userid$$$userid$": "Alice $userid$$userid$alice",
	} {
		got, err := profile.Expand(pattern, values)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", pattern, got, err, want)
		}
		if err := profile.CheckPattern(pattern); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"$", "$userid", "a$b", "$nobody$", "$auth.empty$", "$auth.none$", "$ userid$", "$$$"} {
		if got, err := profile.Expand(pattern, values); !errors.Is(err, profile.ErrPattern) {
			t.Errorf("%q: %q, %v", pattern, got, err)
		}
	}
	for _, pattern := range []string{"$", "$nobody$", "$auth.$", "$auth.a b$", "$auth$", "$cn$"} {
		if err := profile.CheckPattern(pattern); !errors.Is(err, profile.ErrPattern) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	if err := profile.CheckPattern("$auth.any-attribute_1$"); err != nil {
		t.Error(err)
	}
}

func TestExpandWithoutName(t *testing.T) {
	t.Parallel()
	got, err := profile.Expand("$auth.cn$", map[string]string{"auth.cn": "", "userid": "alice"})
	if err != nil || got != "alice" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzExpandOnce: text stays, a dollar sign comes back from two, and what a
// value holds is never looked at.
func FuzzExpandOnce(f *testing.F) {
	f.Add("a", "$cuid$", "$")
	f.Add("", "$userid$", "")
	f.Fuzz(func(t *testing.T, before, value, after string) {
		if value == "" {
			return
		}
		double := func(s string) string { return strings.ReplaceAll(s, "$", "$$") }
		got, err := profile.Expand(double(before)+"$UserId$"+double(after), map[string]string{"userid": value})
		if want := before + value + after; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	})
}

func Example() {
	for _, r := range profile.Shipped(false) {
		p, err := r.Decode()
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(p.Name, len(p.Key), p.Serves("enroll"))
	}
	label, err := profile.Expand("signing key for $userid$", map[string]string{"userid": "alice"})
	fmt.Println(label, err)
	// Output:
	// cleanToken 0 false
	// soKey 2 true
	// tokenKey 0 false
	// userKey 2 true
	// userSigningKey 1 true
	// pivUser 4 true
	// signing key for alice <nil>
}
