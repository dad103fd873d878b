package token_test

import (
	"slices"
	"strings"
	"testing"

	"inkan/tps/token"
)

// byCode are the states as tps-operations.md §16 numbers them (5 was removed).
var byCode = map[byte]token.State{'0': token.Formatted, '1': token.Damaged, '2': token.PermLost, '3': token.Suspended,
	'4': token.Active, '6': token.Terminated, '7': token.Unformatted}

// transitions reads a list as Dogtag writes it.
func transitions(t *testing.T, list string) map[[2]token.State]bool {
	t.Helper()
	allowed := map[[2]token.State]bool{}
	for _, pair := range strings.Split(list, ",") {
		from, to := byCode[pair[0]], byCode[pair[2]]
		if from == "" || to == "" {
			t.Fatalf("no such transition: %s", pair)
		}
		allowed[[2]token.State{from, to}] = true
	}
	return allowed
}

func TestMayBecome(t *testing.T) {
	t.Parallel()
	allowed := transitions(t, "0:0,0:4,4:4,4:0,7:0")
	for _, from := range token.States {
		for _, to := range token.States {
			if got, want := from.MayBecome(to), allowed[[2]token.State{from, to}]; got != want {
				t.Errorf("%s to %s: %t, want %t", from, to, got, want)
			}
		}
	}
	for _, to := range token.States {
		if got, want := token.State("").MayBecome(to), token.Unformatted.MayBecome(to); got != want {
			t.Errorf("no record to %s: %t, want %t", to, got, want)
		}
		if token.State("LOST").MayBecome(to) {
			t.Errorf("an unknown state may become %s", to)
		}
	}
}

func TestOperatorChoices(t *testing.T) {
	t.Parallel()
	for certificates, list := range []string{
		"0:1,0:2,0:3,0:6,3:2,3:6,4:1,4:2,4:3,4:6,6:7,1:2,7:1,7:2,6:1,6:2,3:1,3:0", // without certificates
		"0:1,0:2,0:3,0:6,3:2,3:6,4:1,4:2,4:3,4:6,6:7,1:2,7:1,7:2,6:1,6:2,3:1,3:4", // with one
	} {
		allowed := transitions(t, list)
		for _, from := range append(token.States, "", "LOST") {
			choices := from.OperatorChoices(certificates)
			for _, to := range token.States {
				if got, want := slices.Contains(choices, to), allowed[[2]token.State{from, to}]; got != want {
					t.Errorf("%d certificates, %s to %s: %t, want %t", certificates, from, to, got, want)
				}
			}
		}
	}
	token.Suspended.OperatorChoices(1)[0] = token.Active // the caller's own
	if slices.Contains(token.Suspended.OperatorChoices(0), token.Active) {
		t.Error("a caller changed the table")
	}
}

// TestDEF56FoundWithoutCertificates: a suspended card that has no certificates does
// not become active when it is found.
func TestDEF56FoundWithoutCertificates(t *testing.T) {
	t.Parallel()
	for certificates, want := range []token.State{token.Formatted, token.Active, token.Active} {
		choices := token.Suspended.OperatorChoices(certificates)
		for _, to := range []token.State{token.Formatted, token.Active} {
			if slices.Contains(choices, to) != (to == want) {
				t.Errorf("with %d certificates: %v", certificates, choices)
			}
		}
	}
}

func TestReasonAndLabel(t *testing.T) {
	t.Parallel()
	want := map[token.State]token.Reason{token.PermLost: "keyCompromise", token.Damaged: "destroyed",
		token.Suspended: "onHold", token.Terminated: "terminated"}
	labels := map[string]bool{}
	for _, s := range token.States {
		if got := s.Reason(); got != want[s] {
			t.Errorf("%s: reason %q, want %q", s, got, want[s])
		}
		if l := s.Label(); l == "" || l == string(s) || labels[l] {
			t.Errorf("%s: label %q", s, l)
		}
		labels[s.Label()] = true
	}
	if got := token.State("LOST").Label(); got != "LOST" {
		t.Errorf("label of an unknown state: %q", got)
	}
}

func TestParseState(t *testing.T) {
	t.Parallel()
	for _, s := range token.States {
		if got, err := token.ParseState(string(s)); err != nil || got != s {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "active", "UNINITIALIZED", "TEMP_LOST_PERM_LOST"} {
		if _, err := token.ParseState(bad); err == nil {
			t.Errorf("%q is a state", bad)
		}
	}
}
