package config

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

var dottedKey = regexp.MustCompile(`^[a-z_]+\.[a-z0-9_]+$`)

// Assignment gives a key, SECTION.NAME, a TOML value, or text, which is quoted.
type Assignment struct{ Key, Value string }

// Set changes keys of a document and leaves the rest as it is, comments too. What does
// not check with all of them changed is refused.
func Set(doc []byte, all ...Assignment) ([]byte, error) {
	for _, a := range all {
		section, name, _ := strings.Cut(a.Key, ".")
		if !dottedKey.MatchString(a.Key) {
			return nil, fmt.Errorf("key %q is not of the form SECTION.NAME", a.Key)
		}
		literal, want, err := literalOf(name, a.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Key, err)
		}
		doc = setLine(doc, section, name, literal)
		if err := holds(doc, section, name, want); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Key, err)
		}
	}
	if _, err := Decode(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// literalOf is the TOML of a value and what it decodes to.
func literalOf(name, value string) (literal string, v any, err error) {
	var m map[string]any
	if _, err := toml.Decode(name+" = "+value, &m); err == nil && len(m) == 1 && !strings.ContainsAny(value, "\n#") {
		return value, m[name], nil
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]string{name: value}); err != nil {
		return "", nil, err
	}
	_, literal, _ = strings.Cut(strings.TrimSpace(b.String()), "= ")
	return literal, value, nil
}

// setLine replaces the line of a key, or adds one behind its section's header, or a
// section at the end.
func setLine(doc []byte, section, name, literal string) []byte {
	lines := strings.Split(strings.TrimRight(string(doc), "\n"), "\n")
	line := name + " = " + literal
	header, in := -1, ""
	for i, l := range lines {
		text := strings.TrimSpace(l)
		if strings.HasPrefix(text, "[") && !strings.Contains(text, "=") {
			in = strings.Trim(strings.TrimSpace(strings.SplitN(text, "#", 2)[0]), "[] ")
			if in == section {
				header = i
			}
			continue
		}
		if before, _, ok := strings.Cut(text, "="); ok && in == section && strings.TrimSpace(before) == name {
			indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
			lines[i] = indent + line
			return []byte(strings.Join(lines, "\n") + "\n")
		}
	}
	if header < 0 {
		return []byte(strings.TrimLeft(strings.Join(lines, "\n")+"\n\n["+section+"]\n"+line+"\n", "\n"))
	}
	lines = append(lines[:header+1], append([]string{line}, lines[header+1:]...)...)
	return []byte(strings.Join(lines, "\n") + "\n")
}

// holds reports whether the document now has the value: a value over several lines
// is not found by its line.
func holds(doc []byte, section, name string, want any) error {
	var m map[string]map[string]any
	if _, err := toml.Decode(string(doc), &m); err != nil {
		return fmt.Errorf("the value or its place cannot be written in one line: use inkan config edit (%w)", err)
	}
	if !reflect.DeepEqual(m[section][name], want) {
		return fmt.Errorf("the value cannot be written in one line: use inkan config edit")
	}
	return nil
}
