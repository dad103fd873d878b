package profile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrPattern means that a pattern names a variable that there is not, or that
// has no value for this person.
var ErrPattern = errors.New("bad pattern")

var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// variables but $auth.<attribute>$, in lower case.
var variables = []string{"auth.cn", "userid", "cuid", "pretty_cuid", "msn", "profileid"}

// CheckPattern says whether all variables of a pattern are known: $auth.cn$,
// $userid$, $cuid$, $pretty_cuid$, $msn$, $profileId$ and any $auth.<attribute>$.
func CheckPattern(pattern string) error {
	_, err := expand(pattern, func(name string) (string, error) {
		attribute, ok := strings.CutPrefix(name, "auth.")
		if slices.Contains(variables, name) || ok && attributeName.MatchString(attribute) {
			return "", nil
		}
		return "", fmt.Errorf("%w: unknown variable $%s$", ErrPattern, name)
	})
	return err
}

// Expand replaces each $name$ by values[name], whatever the case of the name;
// $$ is a dollar sign. It goes over the pattern once: a dollar sign in a value
// stays one. $auth.cn$ without a value is $userid$; any other variable without
// a value is ErrPattern.
func Expand(pattern string, values map[string]string) (string, error) {
	lower := make(map[string]string, len(values))
	for name, v := range values {
		lower[strings.ToLower(name)] = v
	}
	if lower["auth.cn"] == "" {
		lower["auth.cn"] = lower["userid"]
	}
	return expand(pattern, func(name string) (string, error) {
		if v := lower[name]; v != "" {
			return v, nil
		}
		return "", fmt.Errorf("%w: no value for $%s$", ErrPattern, name)
	})
}

func expand(pattern string, value func(lowerName string) (string, error)) (string, error) {
	var out strings.Builder
	for rest := pattern; ; {
		text, after, found := strings.Cut(rest, "$")
		out.WriteString(text)
		if !found {
			return out.String(), nil
		}
		name, tail, closed := strings.Cut(after, "$")
		if !closed {
			return "", fmt.Errorf("%w: %q has a $ without its partner", ErrPattern, pattern)
		}
		if rest = tail; name == "" {
			out.WriteByte('$')
			continue
		}
		v, err := value(strings.ToLower(name))
		if err != nil {
			return "", err
		}
		out.WriteString(v)
	}
}
