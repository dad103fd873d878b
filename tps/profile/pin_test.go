package profile_test

import (
	"errors"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/profile"
	"inkan/tps/token"
)

func TestPINCheck(t *testing.T) {
	t.Parallel()
	rules := profile.PIN{Min: 4, Max: 10, Kinds: 1}
	two, four, simple := rules, rules, rules
	two.Kinds, four.Kinds, simple.Simple = 2, 4, true
	tests := []struct {
		name  string
		rules profile.PIN
		pin   string
		want  string // part of the error; empty = taken
	}{
		{"digits", rules, "8305", ""},
		{"longest", rules, "8305173926", ""},
		{"too short", rules, "830", "shorter than 4"},
		{"too long", rules, "83051739264", "longer than 10"},
		{"bytes count, not characters", rules, "éèéèéè", "longer than 10"},
		{"run up", rules, "1234", "too simple"},
		{"run down", rules, "4321", "too simple"},
		{"same", rules, "1111", "too simple"},
		{"letters up", rules, "abcd", "too simple"},
		{"over the nine", rules, "7890", "too simple"},
		{"down over the nought", rules, "2109", "too simple"},
		{"run inside", rules, "9123475", "too simple"},
		{"same inside", rules, "805555", "too simple"},
		{"runs of three", rules, "123321", ""},
		{"run turns", rules, "12321232", ""},
		{"three the same", rules, "111222", ""},
		{"steps of two", rules, "1357", ""},
		{"pairs", rules, "112233", ""},
		{"one kind of two", two, "8305", "wants 2 of"},
		{"two kinds", two, "8305a", ""},
		{"three kinds of four", four, "83aB", "wants 4 of"},
		{"four kinds", four, "8aB-", ""},
		{"user id", rules, "brunhild", "user's name"},
		{"user id, another case", rules, "BrunHild", "user's name"},
		{"user id backwards", rules, "dlihnurb", "user's name"},
		{"user id inside", rules, "1brunhild", "user's name"},
		{"first name", rules, "siglinde", "user's name"},
		{"short part of the name", rules, "von9", ""},
		{"part of the user id", rules, "brun", ""},
		{"simple run", simple, "1234", ""},
		{"simple name", simple, "brunhild", ""},
		{"simple, but too short", simple, "123", "shorter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pin, err := secret.NewPIN([]byte(tt.pin))
			if err != nil {
				t.Fatal(err)
			}
			err = tt.rules.Check(pin, "brunhild", "Siglinde von Worms")
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, profile.ErrPIN) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestPINErrorsHideThePIN with PINs that no text of ours holds.
func TestPINErrorsHideThePIN(t *testing.T) {
	t.Parallel()
	rules := profile.PIN{Min: 6, Max: 8, Kinds: 1}
	for _, pin := range []string{"7q", "7q7q7q7q7q7q", "qqqqqq", "zqxzqx"} {
		p, err := secret.NewPIN([]byte(pin))
		if err != nil {
			t.Fatal(err)
		}
		err = rules.Check(p, "zqxzqx", "")
		if err == nil || strings.Contains(err.Error(), pin) {
			t.Errorf("%s: %v", pin, err)
		}
		if string(p.Bytes()) != pin {
			t.Errorf("%s was changed to %s", pin, p.Bytes())
		}
	}
}

func TestPINCheckEmptyNames(t *testing.T) {
	t.Parallel()
	pin, err := secret.NewPIN([]byte("8305"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []token.UserID{"", " "} {
		if err := (profile.PIN{Min: 4, Max: 10}).Check(pin, user, "  "); err != nil {
			t.Error(err)
		}
	}
	if err := (profile.PIN{Min: 0, Max: 10}).Check(secret.PIN{}, "", ""); err == nil {
		t.Error("no PIN at all is taken")
	}
}
