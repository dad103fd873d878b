package token

import (
	"fmt"
	"strings"
)

// Policy says what may be done with a card again (tps-operations.md §14). Its
// text is NAME=VALUE joined by semicolons.
type Policy struct {
	ReEnroll             bool // RE_ENROLL: a known card may be enrolled again
	Renew                bool // RENEW: an ACTIVE card's certificates are renewed instead
	RenewKeepOldEncCerts bool // RENEW_KEEP_OLD_ENC_CERTS: former encryption certificates stay on the card
	ForceFormat          bool // FORCE_FORMAT: format before enrolling
	PINReset             bool // PIN_RESET
	ResetPINResetToNo    bool // RESET_PIN_RESET_TO_NO: PINReset becomes false after one reset
}

// DefaultPolicy is that of a card without a policy of its own.
func DefaultPolicy() Policy {
	return Policy{ReEnroll: true, RenewKeepOldEncCerts: true, PINReset: true}
}

// field is one name of the text and what it sets.
type field struct {
	name  string
	value *bool
}

// fields are in the order of the canonical text.
func (p *Policy) fields() []field {
	return []field{
		{"RE_ENROLL", &p.ReEnroll},
		{"RENEW", &p.Renew},
		{"RENEW_KEEP_OLD_ENC_CERTS", &p.RenewKeepOldEncCerts},
		{"FORCE_FORMAT", &p.ForceFormat},
		{"PIN_RESET", &p.PINReset},
		{"RESET_PIN_RESET_TO_NO", &p.ResetPINResetToNo},
	}
}

// ParsePolicy reads a policy over the default one; the empty text is that. Errors are
// those of [Policy.With].
func ParsePolicy(text string) (Policy, error) { return DefaultPolicy().With(text) }

// With returns p with what text says otherwise. Names and values count in any case, YES
// and TRUE, NO and FALSE. An unknown name, another value, a name that comes twice or an
// entry without = is an error.
func (p Policy) With(text string) (Policy, error) {
	if strings.TrimSpace(text) == "" {
		return p, nil
	}
	seen := map[string]bool{}
	for _, entry := range strings.Split(text, ";") {
		name, value, found := strings.Cut(entry, "=")
		name = strings.ToUpper(strings.TrimSpace(name))
		switch {
		case !found:
			return Policy{}, fmt.Errorf("policy entry %q is not NAME=VALUE", entry)
		case seen[name]:
			return Policy{}, fmt.Errorf("policy names %s twice", name)
		}
		seen[name] = true
		if err := p.set(name, strings.ToUpper(strings.TrimSpace(value))); err != nil {
			return Policy{}, err
		}
	}
	return p, nil
}

func (p *Policy) set(name, value string) error {
	for _, f := range p.fields() {
		if f.name != name {
			continue
		}
		switch value {
		case "YES", "TRUE":
			*f.value = true
		case "NO", "FALSE":
			*f.value = false
		default:
			return fmt.Errorf("policy %s = %q: want YES or NO", name, value)
		}
		return nil
	}
	return fmt.Errorf("unknown policy %q", name)
}

// String is the canonical text: all six, in capitals. ParsePolicy takes it back.
func (p Policy) String() string {
	var parts []string
	for _, f := range p.fields() {
		value := "NO"
		if *f.value {
			value = "YES"
		}
		parts = append(parts, f.name+"="+value)
	}
	return strings.Join(parts, ";")
}

// MarshalText implements encoding.TextMarshaler.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Policy) UnmarshalText(text []byte) error {
	v, err := ParsePolicy(string(text))
	if err != nil {
		return err
	}
	*p = v
	return nil
}
