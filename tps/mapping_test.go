package tps_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// mapTo stores mappings and has every engine ask them.
func (s *site) mapTo(document string) {
	s.t.Helper()
	r, err := profile.DecodeResolver([]byte(document))
	must(s.t, err)
	_, err = s.db.PutResolver(context.Background(), profile.ResolverRecord{Name: r.Name, Document: document})
	must(s.t, err)
	s.adjust = func(cfg *tps.Config) { cfg.Mappings = s.db }
}

// mapping is a document with one mapping.
func mapping(resolves, operations, filter, target string) string {
	return fmt.Sprintf("name = %q\noperations = [%s]\nresolves = %q\n[[mapping]]\n[mapping.filter]\n%s\n[mapping.target]\n%s\n",
		resolves, operations, resolves, filter, target)
}

// TestMappedProfile: a card gets the profile of the mapping that it passes, and
// the default one if it passes none. Versions are those of the applet it carries.
func TestMappedProfile(t *testing.T) {
	t.Parallel()
	atr := apdu.ATR{0x3B, 0x75, 0x94, 0x00, 0x00, 0x62, 0x02, 0x02, 0x00, 0x00}
	for _, c := range []struct {
		name, filter string
		want         token.ProfileName
	}{
		{"everything", "", "mapped"},
		{"CUID", "cuid_start = \"494E4B41000000000000\"\ncuid_end = \"494E4B41FFFFFFFFFFFF\"", "mapped"},
		{"other CUIDs", `cuid_start = "494E4B42000000000000"`, "test"},
		{"ATR", fmt.Sprintf("token_atr = %q", atr), "mapped"},
		{"other ATR", `token_atr = "3B00"`, "test"},
		{"key size", "sym_key_size = 128", "mapped"},
		{"other key size", "sym_key_size = 256", "test"},
		{"no applet", "protocol_major = 0\napplet_major = 0", "mapped"},
		{"applet", "applet_major = 1", "test"},
		{"key set", `key_set = "maker"`, "mapped"},
		{"wish", `token_type = "none"`, "mapped"},
		{"other wish", `token_type = "test"`, "test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(ecProfile("mapped", nil))
			s.mapTo(mapping("profile", `"enroll"`, c.filter, `profile = "mapped"`))
			_, err := s.run(tps.OpEnroll, newCard(t, "gp-scp03"), func(_ *client, r *tps.Request) {
				r.ATR, r.KeySet, r.TokenType = atr, "maker", "none"
			})
			must(t, err)
			r, err := s.db.Token(t.Context(), onlyToken(t, s))
			must(t, err)
			if r.Profile != c.want {
				t.Errorf("enrolled with profile %s, want %s", r.Profile, c.want)
			}
		})
	}
}

// TestMappedVersions: the versions are those of the applet on the card; other
// operations do not ask the mappings of enrollment.
func TestMappedVersions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("mapped", nil))
	s.mapTo(mapping("profile", `"enroll"`, "protocol_major = 1\nprotocol_minor = 1\napplet_major = 1\napplet_minor = 4", `profile = "mapped"`))
	card := newCard(t, "gp-scp03")
	for _, c := range []struct {
		op   tps.Operation
		want token.ProfileName
	}{{tps.OpFormat, "test"}, {tps.OpEnroll, "mapped"}, {tps.OpPINReset, "mapped"}} {
		_, err := s.run(c.op, card)
		must(t, err)
		r, err := s.db.Token(t.Context(), onlyToken(t, s))
		must(t, err)
		if r.Profile != c.want {
			t.Errorf("after %s: profile %s, want %s", c.op, r.Profile, c.want)
		}
	}
}

// TestMappedKeys: the key set of a mapping is the one that a changeover gives the
// card, and a cut in it is finished with the same.
func TestMappedKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{`change_on = ["key-changeover"]`: `change_on = ["format"]`}))
	s.mapTo(mapping("keys", `"format", "enroll"`, "sym_key_size = 128", "key_set = \"wide\"\nkey_version = 3"))
	card := newCard(t, "gp-scp03")
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset} {
		_, err := s.run(op, card)
		must(t, err)
		r, err := s.db.Token(t.Context(), onlyToken(t, s))
		must(t, err)
		if r.KeySet != "wide" || r.KeyInfo[0] != 3 {
			t.Errorf("after %s: keys %s %v, want those of wide 3", op, r.KeySet, r.KeyInfo)
		}
	}
}

// TestMappedNowhere: cards whose mapping has no target, or one that does not
// serve, are refused before the login.
func TestMappedNowhere(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]tps.Status{
		"": tps.StatusNoMapping, `profile = "gone"`: tps.StatusNoMapping, `profile = "off"`: tps.StatusDisabledToken,
	} {
		s := newSite(t)
		s.disable("off")
		s.mapTo(mapping("profile", `"enroll"`, "", target))
		c, err := s.run(tps.OpEnroll, newCard(t, "gp-scp03"))
		wantStatus(t, err, want)
		if c.logins != 0 || countActivities(t, s) != 1 {
			t.Errorf("%q: %d logins, %d activities", target, c.logins, countActivities(t, s))
		}
	}
	s := newSite(t)
	s.mapTo(mapping("profile", `"enroll"`, "", ""))
	s.adjust = func(cfg *tps.Config) { cfg.Mappings = noMappings{} }
	_, err := s.run(tps.OpEnroll, newCard(t, "gp-scp03"))
	wantStatus(t, err, tps.StatusDatabase)
}

// noMappings cannot be read.
type noMappings struct{ resolvers }

type resolvers interface{ profile.Resolvers }

func (noMappings) Resolvers(context.Context) ([]profile.ResolverRecord, error) {
	return nil, token.ErrUnavailable
}

// TestDEF55: whatever profile a client's hint selects, by itself or through a
// mapping, nothing is done without a login, and by those only whom the profile
// lets.
func TestDEF55(t *testing.T) {
	t.Parallel()
	for _, mapped := range []bool{false, true} {
		s := newSite(t)
		s.put(strings.Replace(ecProfile("clean", nil), "[card]", "[auth]\nrole = \"operator\"\n[card]", 1))
		if mapped {
			s.mapTo(mapping("profile", `"format"`, `token_type = "soCleanUserToken"`, `profile = "clean"`))
		}
		hint := with("clean")
		if mapped {
			hint = with("soCleanUserToken")
		}
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		cuid := onlyToken(t, s)
		c, err := s.run(tps.OpFormat, card, hint, func(c *client, _ *tps.Request) { c.password = "" })
		wantStatus(t, err, tps.StatusLogin)
		if c.logins == 0 {
			t.Errorf("mapped %t: no login was asked for", mapped)
		}
		c, err = s.run(tps.OpFormat, card, hint) // ada owns the card, but is no operator
		wantStatus(t, err, tps.StatusLogin)
		if c.logins != 1 {
			t.Errorf("mapped %t: %d logins", mapped, c.logins)
		}
		if _, err := s.db.OpenJournal(t.Context(), cuid); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("mapped %t: something was begun: %v", mapped, err)
		}
		unharmed(t, s, card, cuid)
		_, err = s.run(tps.OpFormat, card, hint, as("olga"))
		must(t, err)
	}
}
