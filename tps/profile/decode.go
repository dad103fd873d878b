package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"inkan/tks"
)

// MaxDocument is the largest document that Decode takes, in bytes.
const MaxDocument = 64 << 10

// Decode reads a profile document: strictly (an unknown key is an error that
// names it), with the defaults of tps-operations.md §13.6, and validated.
func Decode(document []byte) (Profile, error) {
	p, err := parse(document)
	if err != nil {
		return Profile{}, fmt.Errorf("decoding profile: %w", err)
	}
	if err := p.Validate(); err != nil {
		return Profile{}, fmt.Errorf("profile %q: %w", p.Name, err)
	}
	return p, nil
}

func parse(document []byte) (Profile, error) {
	if len(document) > MaxDocument {
		return Profile{}, fmt.Errorf("document of %d bytes, at most %d", len(document), MaxDocument)
	}
	doc := struct {
		Profile
		Key []toml.Primitive `toml:"key"` // hides Profile.Key: each element has defaults of its own
	}{Profile: defaults()}
	if familyOf(document) == FamilyPIV {
		doc.Profile.forPIV()
	}
	md, err := toml.Decode(string(document), &doc)
	if err != nil {
		return Profile{}, err
	}
	p := doc.Profile
	for i, raw := range doc.Key {
		k := Key{Alg: "rsa-2048", CA: "embedded", Overwrite: true, Made: MadeByCard}
		if p.Family == FamilyPIV {
			var at struct {
				Slot string `toml:"slot"`
			}
			if err := md.PrimitiveDecode(raw, &at); err != nil {
				return Profile{}, fmt.Errorf("key %d: %w", i+1, err)
			}
			k.Alg, k.Cert = "p256", max(slices.Index(pivSlots, at.Slot), 0) // which stays, whatever comes before it
		}
		if err := md.PrimitiveDecode(raw, &k); err != nil {
			return Profile{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		if k.Label == "" {
			k.Label = k.Type + " key for $userid$"
		}
		p.Key = append(p.Key, k)
	}
	return p, unknown(md)
}

// familyOf is the family that a document names: its defaults depend on that.
func familyOf(document []byte) string {
	var doc struct {
		Family string `toml:"family"`
	}
	if _, err := toml.Decode(string(document), &doc); err != nil {
		return "" // decoding the whole says why
	}
	return doc.Family
}

// unknown names the keys that no field took, and those that one took although
// they are written in another case: of Version and version only one may count.
// Those of capitals have them by right.
func unknown(md toml.MetaData, capitals ...string) error {
	var errs []error
	for _, k := range md.Undecoded() {
		errs = append(errs, fmt.Errorf("unknown key %s", k))
	}
	for _, k := range md.Keys() {
		lower := strings.ToLower(k.String())
		if k.String() != lower && !strings.HasPrefix(lower, "applet.by_scp.") && !slices.Contains(capitals, k.String()) && !slices.ContainsFunc(md.Undecoded(), func(u toml.Key) bool {
			return u.String() == k.String()
		}) {
			errs = append(errs, fmt.Errorf("unknown key %s, it is written %s", k, lower))
		}
	}
	return errors.Join(errs...)
}

// defaults are those of tps-operations.md §13.6.
func defaults() Profile {
	return Profile{
		Family:     "coolkey",
		Operations: []string{Formatting, Enrolling, Renewing, ResettingPIN, ChangingKeys},
		Auth:       Auth{ID: "local", Retries: 3},
		Card:       Card{AllowUnknown: "operator", CheckKeyInfo: true, KeyVersionMin: 1, KeyVersionMax: 255},
		Channel:    Channel{Level: "best"},
		Keys:       Keys{Set: "site", ChangeOn: []string{Formatting, ChangingKeys}, Factory: tks.Factory},
		Applet:     Applet{Update: true, Downgrade: true, EmptyCard: true, InstanceSize: 18000, Heap: 8192},
		PIN:        PIN{Min: 4, Max: 10, Tries: 10, Reset: true, Kinds: 1},
		Format:     Format{Revoke: true},
		Enroll:     Enroll{OldCerts: "revoke", Label: "$auth.cn$", Compress: true},
		Renewal:    Renewal{OldCerts: "keep"},
		Compat:     Compat{ListKeys: true, ClearSlots: true, ReadBack: true, AppletCheck: true},
	}
}
