package profile

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tps/token"
)

// What a resolver resolves.
const (
	ResolvesProfile = "profile"
	ResolvesKeys    = "keys"
)

// Resolver is one document of mappings (tps-operations.md §15): which profile, or
// which keys, the cards get that an operation meets. Its mappings are visited in
// the order of the document and the first one that passes wins.
type Resolver struct {
	Name       string
	Title      string
	Operations []string // that ask it: format, enroll, renew, pin-reset, key-changeover
	Resolves   string   // ResolvesProfile (default) or ResolvesKeys
	Mappings   []Mapping

	// Revision is the stored revision, 0 for a document not stored. Not part of the document.
	Revision int
	// Warnings are what a reader of the document should know although it is taken.
	Warnings []string
}

// Mapping is a filter and what the cards get that pass it.
type Mapping struct {
	Title  string
	Filter Filter
	Target Target
}

// Filter is what a card and its client have to show; a condition that is not set
// always passes, and all that are set have to (§15.2).
type Filter struct {
	TokenType string // BEGIN_OP extension, exactly
	KeySet    string // BEGIN_OP extension, exactly
	TokenATR  apdu.ATR
	// CUIDStart and CUIDEnd bound the CUID, both included.
	CUIDStart, CUIDEnd *apdu.CUID
	// ProtocolMajor and ProtocolMinor are the applet's protocol version, AppletMajor
	// and AppletMinor its own; a card without applet has 0.0 of both.
	ProtocolMajor, ProtocolMinor, AppletMajor, AppletMinor *int
	SymKeySize                                             int // bits of the card manager's keys; 0 = any
}

// Target is what a mapping gives. Empty fields leave what the profile says.
type Target struct {
	Profile token.ProfileName // of a resolver of profiles

	// Of a resolver of keys.
	KeySet     tks.KeySetName // [keys] set
	KeyVersion int            // [keys] version; 0 = the profile's
	Factory    tks.KeySetName // [keys] factory: the set of a card maker's keys
	Applet     string         // [applet] version, for every protocol
}

// Seen is what a filter is compared with: what the client says, which is a claim,
// and what the card shows.
type Seen struct {
	TokenType string // BEGIN_OP extension; empty = not sent
	KeySet    string // BEGIN_OP extension; empty = not sent
	ATR       apdu.ATR
	CUID      apdu.CUID
	KeySize   int             // bits of the card manager's keys; 0 = the card does not show it
	Applet    *AppletVersions // nil = not known, and then no filter of a version passes
}

// AppletVersions are what an applet says of itself (GET STATUS, bytes 0 to 3).
type AppletVersions struct{ ProtocolMajor, ProtocolMinor, AppletMajor, AppletMinor int }

// Miss says why a card does not pass; empty: it passes.
func (f Filter) Miss(s Seen) string {
	for _, c := range []struct {
		name       string
		want, said string
	}{{"token_type", f.TokenType, s.TokenType}, {"key_set", f.KeySet, s.KeySet}} {
		switch {
		case c.want == "" || c.want == c.said:
		case c.said == "":
			return fmt.Sprintf("the client sends no %s", c.name)
		default:
			return fmt.Sprintf("%s is %q, not %q", c.name, c.said, c.want)
		}
	}
	switch {
	case len(f.TokenATR) > 0 && len(s.ATR) == 0:
		return "the client sends no token_atr"
	case len(f.TokenATR) > 0 && !bytes.Equal(f.TokenATR, s.ATR):
		return fmt.Sprintf("token_atr is %s, not %s", s.ATR, f.TokenATR)
	case f.CUIDStart != nil && bytes.Compare(s.CUID[:], f.CUIDStart[:]) < 0:
		return fmt.Sprintf("the CUID is below %s", f.CUIDStart)
	case f.CUIDEnd != nil && bytes.Compare(s.CUID[:], f.CUIDEnd[:]) > 0:
		return fmt.Sprintf("the CUID is above %s", f.CUIDEnd)
	case f.SymKeySize != 0 && s.KeySize == 0:
		return "the card does not show the size of its keys"
	case f.SymKeySize != 0 && f.SymKeySize != s.KeySize:
		return fmt.Sprintf("the card's keys have %d bits, not %d", s.KeySize, f.SymKeySize)
	}
	return f.missVersion(s.Applet)
}

func (f Filter) missVersion(v *AppletVersions) string {
	if !f.asksVersions() {
		return ""
	}
	if v == nil {
		return "the versions of the card's applet are not known"
	}
	for _, c := range []struct {
		name string
		want *int
		have int
	}{
		{"protocol_major", f.ProtocolMajor, v.ProtocolMajor}, {"protocol_minor", f.ProtocolMinor, v.ProtocolMinor},
		{"applet_major", f.AppletMajor, v.AppletMajor}, {"applet_minor", f.AppletMinor, v.AppletMinor},
	} {
		if c.want != nil && *c.want != c.have {
			return fmt.Sprintf("%s is %d, not %d", c.name, c.have, *c.want)
		}
	}
	return ""
}

func (f Filter) asksVersions() bool {
	return f.ProtocolMajor != nil || f.ProtocolMinor != nil || f.AppletMajor != nil || f.AppletMinor != nil
}

// AsksVersions reports whether a filter compares versions of the applet, which
// have to be read from the card then.
func (r Resolver) AsksVersions() bool {
	return slices.ContainsFunc(r.Mappings, func(m Mapping) bool { return m.Filter.asksVersions() })
}

// Serves reports whether the resolver is asked by an operation.
func (r Resolver) Serves(operation string) bool { return slices.Contains(r.Operations, operation) }

// Winner is the index of the first mapping that passes, -1 if none does. misses
// are the reasons of those before it. What the winner lacks is no matter here: a
// target counts in the winner only (DEF-54).
func (r Resolver) Winner(s Seen) (winner int, misses []string) {
	for i, m := range r.Mappings {
		miss := m.Filter.Miss(s)
		if miss == "" {
			return i, misses
		}
		misses = append(misses, miss)
	}
	return -1, misses
}

// Apply gives a profile the keys and the applet of a target.
func (t Target) Apply(p Profile) Profile {
	if t.KeySet != "" {
		p.Keys.Set = t.KeySet
	}
	if t.KeyVersion != 0 {
		p.Keys.Version = t.KeyVersion
	}
	if t.Factory != "" {
		p.Keys.Factory = t.Factory
	}
	if t.Applet != "" {
		p.Applet.Version, p.Applet.ByProtocol = t.Applet, nil
	}
	return p
}

// ResolverRecord is a stored resolver.
type ResolverRecord struct {
	Name     string
	Revision int    // +1 per change
	Document string // TOML as written
	Created  time.Time
	Modified time.Time
}

// String is the filter as a document writes it, conditions behind one another;
// "every card" where there is none.
func (f Filter) String() string {
	var parts []string
	add := func(set bool, format string, v any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add(f.TokenType != "", "token_type = %q", f.TokenType)
	add(f.KeySet != "", "key_set = %q", f.KeySet)
	add(len(f.TokenATR) > 0, "token_atr = %s", f.TokenATR)
	add(f.CUIDStart != nil, "cuid_start = %s", f.CUIDStart)
	add(f.CUIDEnd != nil, "cuid_end = %s", f.CUIDEnd)
	for _, v := range []struct {
		name  string
		value *int
	}{
		{"protocol_major", f.ProtocolMajor}, {"protocol_minor", f.ProtocolMinor}, {"applet_major", f.AppletMajor}, {"applet_minor", f.AppletMinor},
	} {
		if v.value != nil {
			add(true, v.name+" = %d", *v.value)
		}
	}
	add(f.SymKeySize != 0, "sym_key_size = %d", f.SymKeySize)
	if len(parts) == 0 {
		return "every card"
	}
	return strings.Join(parts, ", ")
}

// String is the target as a document writes it; "refused" where there is none.
func (t Target) String() string {
	var parts []string
	version := ""
	if t.KeyVersion != 0 {
		version = strconv.Itoa(t.KeyVersion)
	}
	for _, v := range []struct{ name, value string }{
		{"profile", string(t.Profile)}, {"key_set", string(t.KeySet)}, {"key_version", version},
		{"factory", string(t.Factory)}, {"applet", t.Applet},
	} {
		if v.value != "" {
			parts = append(parts, v.name+" = "+v.value)
		}
	}
	if len(parts) == 0 {
		return "refused"
	}
	return strings.Join(parts, ", ")
}
