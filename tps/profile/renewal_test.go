package profile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// TestDEF36: days before and after that are not given are no limit, and never an error.
func TestDEF36(t *testing.T) {
	t.Parallel()
	end := time.Date(2027, 3, 31, 12, 0, 0, 0, time.UTC)
	for section, want := range map[string][2]time.Time{
		"":                                    {},
		"before = 0\nafter = 0":               {},
		"before = 30":                         {end.AddDate(0, 0, -30), {}},
		"after = 7":                           {{}, end.AddDate(0, 0, 7)},
		"before = 1\nafter = 1\nkeys = []":    {end.AddDate(0, 0, -1), end.AddDate(0, 0, 1)},
		"keys = [\"signing\"]\nbefore = 3650": {end.AddDate(0, 0, -3650), {}},
	} {
		p, err := profile.Decode([]byte(minimal + "[renewal]\nenabled = true\n" + section))
		if err != nil {
			t.Errorf("%q: %v", section, err)
			continue
		}
		if from, until := p.Renewal.Window(end); from != want[0] || until != want[1] {
			t.Errorf("%q: from %v until %v, want %v", section, from, until, want)
		}
		if !p.Renews("signing") {
			t.Errorf("%q: renews no signing certificate", section)
		}
	}
}

// TestRenewalOfOldDocuments: a profile that was stored before there was renewal goes on
// meaning what it meant.
func TestRenewalOfOldDocuments(t *testing.T) {
	t.Parallel()
	for _, operations := range []string{"", "operations = [\"format\", \"enroll\", \"pin-reset\", \"key-changeover\"]\n"} {
		p, err := profile.Decode([]byte(operations + minimal))
		if err != nil || p.Renewal.Enabled || p.Renews("signing") || slices.Contains(p.Keys.ChangeOn, "renew") {
			t.Errorf("%q: %+v, %v", operations, p.Renewal, err)
		}
	}
}

// TestChooseForRenewal: a card's certificates are renewed by the profile that they were
// issued by, or not at all.
func TestChooseForRenewal(t *testing.T) {
	t.Parallel()
	s := shelved()
	for own, want := range map[token.ProfileName]error{"userKey": nil, "soKey": profile.ErrNotServed, "gone": profile.ErrUnknown} {
		r := profile.Request{Operation: "renew", Own: own, Default: "userSigningKey", Seen: profile.Seen{TokenType: "userSigningKey"}}
		if !r.KeepsContent() {
			t.Error("the card's own profile does not count")
		}
		c, err := profile.Choose(t.Context(), s, nil, r)
		if !errors.Is(err, want) || want == nil && c.Profile.Name != own {
			t.Errorf("%s: %s, %v", own, c.Profile.Name, err)
		}
	}
}

func TestShippedKeysRenewed(t *testing.T) {
	t.Parallel()
	for _, r := range profile.Shipped(false) {
		p, err := r.Decode()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range p.Key {
			if want := !strings.HasPrefix(string(r.Name), "so"); p.Renews(k.Type) != want {
				t.Errorf("%s: %s renewed %t", r.Name, k.Type, !want)
			}
		}
	}
}
