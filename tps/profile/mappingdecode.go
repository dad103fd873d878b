package profile

import (
	"errors"
	"fmt"
	"slices"

	"github.com/BurntSushi/toml"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tps/token"
)

// Old names of filters. They are named after the applet's version and have
// always been compared with its protocol's (DEF-05).
const (
	oldMajor = "appletMajorVersion"
	oldMinor = "appletMinorVersion"
)

// resolverDocument is the form of a resolver in TOML.
type resolverDocument struct {
	Name       string            `toml:"name"`
	Title      string            `toml:"title"`
	Operations []string          `toml:"operations"`
	Resolves   string            `toml:"resolves"`
	Mapping    []mappingDocument `toml:"mapping"`
}

type mappingDocument struct {
	Title  string `toml:"title"`
	Filter struct {
		TokenType     string `toml:"token_type"`
		KeySet        string `toml:"key_set"`
		TokenATR      string `toml:"token_atr"`
		CUIDStart     string `toml:"cuid_start"`
		CUIDEnd       string `toml:"cuid_end"`
		ProtocolMajor *int   `toml:"protocol_major"`
		ProtocolMinor *int   `toml:"protocol_minor"`
		AppletMajor   *int   `toml:"applet_major"`
		AppletMinor   *int   `toml:"applet_minor"`
		SymKeySize    int    `toml:"sym_key_size"`
		OldMajor      *int   `toml:"appletMajorVersion"`
		OldMinor      *int   `toml:"appletMinorVersion"`
	} `toml:"filter"`
	Target struct {
		Profile    string `toml:"profile"`
		KeySet     string `toml:"key_set"`
		KeyVersion int    `toml:"key_version"`
		Factory    string `toml:"factory"`
		Applet     string `toml:"applet"`
	} `toml:"target"`
}

// DecodeResolver reads a document of mappings: strictly (an unknown key is an
// error that names it), and validated as a whole. Whether the profiles and key
// sets that it names exist is for the node to say.
func DecodeResolver(document []byte) (Resolver, error) {
	if len(document) > MaxDocument {
		return Resolver{}, fmt.Errorf("decoding mappings: document of %d bytes, at most %d", len(document), MaxDocument)
	}
	doc := resolverDocument{Resolves: ResolvesProfile}
	md, err := toml.Decode(string(document), &doc)
	if err == nil {
		err = unknown(md, "mapping.filter."+oldMajor, "mapping.filter."+oldMinor)
	}
	if err != nil {
		return Resolver{}, fmt.Errorf("decoding mappings: %w", err)
	}
	r, err := doc.resolver()
	if err != nil {
		return Resolver{}, fmt.Errorf("mappings %q: %w", r.Name, err)
	}
	return r, nil
}

func (doc resolverDocument) resolver() (Resolver, error) {
	var c check
	r := Resolver{Name: doc.Name, Title: doc.Title, Operations: doc.Operations, Resolves: doc.Resolves}
	c.that(profileName.MatchString(r.Name), "name = %q: want 1 to 64 letters, digits, _ and -, beginning with a letter", r.Name)
	c.that(len(r.Operations) > 0, "operations is missing: nothing would ask these mappings") // DEF-51
	c.subset("operations", r.Operations, operations)
	c.oneOf("resolves", r.Resolves, ResolvesProfile, ResolvesKeys)
	c.that(len(doc.Mapping) > 0, "there is no [[mapping]]")
	for i, d := range doc.Mapping {
		at := fmt.Sprintf("mapping %d: ", i+1)
		r.Mappings = append(r.Mappings, Mapping{Title: d.Title, Filter: d.filter(&c, at), Target: d.target(&c, at, r.Resolves)})
		r.Warnings = append(r.Warnings, d.warnings(at)...)
	}
	return r, errors.Join(c.errs...)
}

// warnings names the filters that do not mean what they say.
func (d mappingDocument) warnings(at string) (ws []string) {
	for _, old := range []struct {
		value      *int
		name, part string
	}{{d.Filter.OldMajor, oldMajor, "major"}, {d.Filter.OldMinor, oldMinor, "minor"}} {
		if old.value != nil {
			ws = append(ws, fmt.Sprintf("%s%s is compared with the protocol version of the applet: write protocol_%s for that, applet_%s for its own version",
				at, old.name, old.part, old.part))
		}
	}
	return ws
}

func (d mappingDocument) filter(c *check, at string) Filter {
	in := d.Filter
	f := Filter{TokenType: in.TokenType, KeySet: in.KeySet, AppletMajor: in.AppletMajor, AppletMinor: in.AppletMinor, SymKeySize: in.SymKeySize}
	if in.TokenATR != "" {
		atr, err := apdu.ParseATR(in.TokenATR)
		c.err(at+"filter.token_atr", err)
		f.TokenATR = atr
	}
	f.CUIDStart, f.CUIDEnd = bound(c, at+"filter.cuid_start", in.CUIDStart), bound(c, at+"filter.cuid_end", in.CUIDEnd)
	if f.CUIDStart != nil && f.CUIDEnd != nil {
		c.that(f.CUIDStart.String() <= f.CUIDEnd.String(), "%sfilter.cuid_start is above cuid_end: no card would pass", at)
	}
	f.ProtocolMajor = renamed(c, at, in.ProtocolMajor, in.OldMajor, "protocol_major", oldMajor)
	f.ProtocolMinor = renamed(c, at, in.ProtocolMinor, in.OldMinor, "protocol_minor", oldMinor)
	for _, v := range []struct {
		name  string
		value *int
	}{
		{"protocol_major", f.ProtocolMajor}, {"protocol_minor", f.ProtocolMinor}, {"applet_major", f.AppletMajor}, {"applet_minor", f.AppletMinor},
	} {
		if v.value != nil {
			c.between(at+"filter."+v.name, *v.value, 0, 255)
		}
	}
	c.that(slices.Contains([]int{0, 64, 128, 192, 256}, f.SymKeySize), "%sfilter.sym_key_size = %d: want 64, 128, 192 or 256 bits", at, f.SymKeySize)
	return f
}

func bound(c *check, key, text string) *apdu.CUID {
	if text == "" {
		return nil
	}
	cuid, err := apdu.ParseCUID(text)
	c.err(key, err)
	return &cuid
}

// renamed is the value of a filter that has an old name too.
func renamed(c *check, at string, now, old *int, name, oldName string) *int {
	if old == nil {
		return now
	}
	c.that(now == nil, "%sfilter.%s and filter.%s are the same: write the former only", at, name, oldName)
	return old
}

func (d mappingDocument) target(c *check, at, resolves string) Target {
	in := d.Target
	t := Target{Profile: token.ProfileName(in.Profile), KeySet: tks.KeySetName(in.KeySet), KeyVersion: in.KeyVersion,
		Factory: tks.KeySetName(in.Factory), Applet: in.Applet}
	if resolves == ResolvesProfile {
		c.that(t == Target{Profile: t.Profile}, "%starget: mappings of profiles have a target.profile and nothing else", at)
		c.that(in.Profile == "" || profileName.MatchString(in.Profile), "%starget.profile = %q: not the name of a profile", at, in.Profile)
		return t
	}
	c.that(in.Profile == "", "%starget.profile: these mappings resolve keys", at)
	for _, set := range []struct{ name, value string }{{"key_set", in.KeySet}, {"factory", in.Factory}} {
		if set.value != "" {
			_, err := tks.ParseKeySetName(set.value)
			c.err(at+"target."+set.name, err)
		}
	}
	c.between(at+"target.key_version", t.KeyVersion, 0, 127)
	c.that(t.Applet == "" || appletText.MatchString(t.Applet), "%starget.applet = %q: want a version such as 1.4.58768072, in lower case", at, t.Applet)
	return t
}

// Decode returns the record's document, which must bear the record's name, with
// the record's revision.
func (r ResolverRecord) Decode() (Resolver, error) {
	out, err := DecodeResolver([]byte(r.Document))
	if err != nil {
		return Resolver{}, err
	}
	if out.Name != r.Name {
		return Resolver{}, fmt.Errorf("mappings %s: their document is named %q", r.Name, out.Name)
	}
	out.Revision = r.Revision
	return out, nil
}
