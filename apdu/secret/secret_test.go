package secret_test

import (
	"bytes"
	"context"
	"encoding"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"

	"inkan/apdu/secret"
)

// value is what must never show. Its spellings cover the ways in which printers
// write bytes: text, hexadecimal, decimal lists, Go syntax, base64.
const value = "S3cr3tK3y!"

func spellings() []string {
	b := []byte(value)
	var dec, goHex []string
	for _, c := range b {
		dec = append(dec, fmt.Sprint(c))
		goHex = append(goHex, fmt.Sprintf("0x%x", c))
	}
	return []string{
		value, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		fmt.Sprintf("% x", b), strings.Join(dec, " "), strings.Join(dec, ","), strings.Join(goHex, ", "), strings.Join(goHex, ","),
		base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b),
	}
}

func leaks(out string) string {
	for _, s := range spellings() {
		if strings.Contains(out, s) {
			return s
		}
	}
	return ""
}

type exported struct{ S secret.Secret }
type unexported struct{ s secret.Secret }
type embedded struct{ secret.Secret }
type pinHolder struct{ p secret.PIN }
type deep struct {
	Name string
	in   []map[string]*unexported
}

func nestings(t *testing.T) map[string]any {
	s := secret.New([]byte(value))
	p, err := secret.NewPIN([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"itself":           s,
		"pointer":          &s,
		"exported field":   exported{s},
		"unexported field": unexported{s},
		"pointer to field": &unexported{s},
		"embedded":         embedded{s},
		"slice":            []secret.Secret{s},
		"array":            [1]secret.Secret{s},
		"map":              map[string]secret.Secret{"k": s},
		"interface":        []any{s, &s},
		"deep":             deep{"d", []map[string]*unexported{{"k": {s}}}},
		"PIN":              p,
		"PIN in a field":   pinHolder{p},
		"error":            fmt.Errorf("with %v: %w", s, errors.New("cause")),
		"function":         s.Bytes, // a method value, not called
	}
}

// TestNoVerbLeaks prints every nesting under every verb.
func TestNoVerbLeaks(t *testing.T) {
	t.Parallel()
	verbs := []string{"%v", "%+v", "%#v", "%T", "%s", "%+s", "%#s", "%q", "%+q", "%#q", "%x", "% x", "%#x", "%X", "% X", "%d", "%c", "%U", "%o", "%b", "%e", "%t", "%100v", "%-40s", "%.3s", "%w"}
	for name, v := range nestings(t) {
		for _, verb := range verbs {
			if out := fmt.Sprintf(verb, v); leaks(out) != "" {
				t.Errorf("nesting=%s verb=%s: %s", name, verb, out)
			}
		}
		for print, out := range map[string]string{"Print": fmt.Sprint(v), "Println": fmt.Sprintln(v), "Errorf": fmt.Errorf("x %v", v).Error()} {
			if leaks(out) != "" {
				t.Errorf("nesting=%s %s: %s", name, print, out)
			}
		}
	}
}

// TestNoEncoderLeaks gives every nesting to every encoder; an encoder may fail.
func TestNoEncoderLeaks(t *testing.T) {
	t.Parallel()
	encoders := map[string]func(any) (string, error){
		"json":          func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"json indented": func(v any) (string, error) { b, err := json.MarshalIndent(v, "", " "); return string(b), err },
		"xml":           func(v any) (string, error) { b, err := xml.Marshal(v); return string(b), err },
		"gob": func(v any) (string, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.String(), err
		},
		"template": func(v any) (string, error) {
			var b bytes.Buffer
			err := template.Must(template.New("").Parse(`{{.}} {{printf "%x" .}} {{printf "%#v" .}}`)).Execute(&b, v)
			return b.String(), err
		},
		"slog text": func(v any) (string, error) { return logged(v, textHandler) },
		"slog json": func(v any) (string, error) { return logged(v, jsonHandler) },
	}
	for name, v := range nestings(t) {
		for enc, encode := range encoders {
			out, err := encode(v)
			if leaks(out) != "" || err != nil && leaks(err.Error()) != "" {
				t.Errorf("nesting=%s encoder=%s: %q %v", name, enc, out, err)
			}
		}
	}
}

func textHandler(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }
func jsonHandler(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

func logged(v any, handler func(io.Writer) slog.Handler) (string, error) {
	var b bytes.Buffer
	log := slog.New(handler(&b)).With("with", v).WithGroup("g")
	log.LogAttrs(context.Background(), slog.LevelInfo, "m", slog.Any("any", v), slog.Group("in", slog.Any("x", v)))
	return b.String(), nil
}

// TestLeaksSees makes sure that the two tests above can fail: the same value in an
// ordinary type is seen in each of the spellings it is printed in.
func TestLeaksSees(t *testing.T) {
	t.Parallel()
	type naive struct{ b []byte }
	for _, verb := range []string{"%s", "%q", "%x", "%X", "%v", "%#v", "% x", "%d"} {
		if out := fmt.Sprintf(verb, naive{[]byte(value)}); leaks(out) == "" {
			t.Errorf("%s: %s is not seen as a leak", verb, out)
		}
	}
	b, err := json.Marshal([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	if leaks(string(b)) == "" {
		t.Errorf("%s is not seen as a leak", b)
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	s := secret.New([]byte(value))
	for _, out := range []string{s.String(), fmt.Sprint(s), fmt.Sprintf("%x", s), fmt.Sprintf("%v", exported{s})[1:11], s.LogValue().String()} {
		if out != "[redacted]" {
			t.Errorf("printed as %q", out)
		}
	}
}

// TestRefusesToMarshal: a secret can be neither stored nor sent by accident.
func TestRefusesToMarshal(t *testing.T) {
	t.Parallel()
	s := secret.New([]byte(value))
	var _ encoding.TextMarshaler = s
	var _ encoding.BinaryMarshaler = s
	if b, err := s.MarshalText(); err == nil {
		t.Errorf("MarshalText: %q", b)
	}
	if b, err := s.MarshalBinary(); err == nil {
		t.Errorf("MarshalBinary: %q", b)
	}
	if b, err := json.Marshal(exported{s}); err == nil {
		t.Errorf("json: %s", b)
	}
	if b, err := json.Marshal(map[string]any{"pin": secret.PIN{Secret: s}}); err == nil {
		t.Errorf("json of a PIN: %s", b)
	}
}

// TestNotComparable: == on secrets, which would not be constant time, does not compile.
func TestNotComparable(t *testing.T) {
	t.Parallel()
	for _, v := range []any{secret.Secret{}, secret.PIN{}} {
		if reflect.TypeOf(v).Comparable() {
			t.Errorf("%T can be compared with ==", v)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	b := []byte(value)
	s := secret.New(b)
	if &s.Bytes()[0] != &b[0] {
		t.Error("New copied")
	}
	if s.Len() != len(value) || s.IsZero() {
		t.Errorf("length %d", s.Len())
	}
	c := s.Clone()
	if !c.Equal(s) || &c.Bytes()[0] == &b[0] {
		t.Error("Clone is no independent copy")
	}
	if s.Equal(secret.New([]byte("other"))) || s.Equal(secret.Secret{}) || !(secret.Secret{}).Equal(secret.New(nil)) {
		t.Error("Equal")
	}
	s.Wipe()
	if !slices.Equal(b, make([]byte, len(value))) {
		t.Errorf("after Wipe: %X", b)
	}
	if string(c.Bytes()) != value {
		t.Error("Wipe reached the clone")
	}
}

func TestZeroSecret(t *testing.T) {
	t.Parallel()
	var s secret.Secret
	s.Wipe()
	if s.Bytes() != nil || s.Len() != 0 || !s.IsZero() || s.Clone().Len() != 0 || s.String() != "[redacted]" {
		t.Error("the zero value is not an empty secret")
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	a, b := secret.Random(16), secret.Random(16)
	if a.Len() != 16 || a.Equal(b) || a.Equal(secret.New(make([]byte, 16))) {
		t.Error("not random")
	}
	if secret.Random(0).Len() != 0 {
		t.Error("Random(0)")
	}
}

func TestNewPIN(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pin string
		ok  bool
	}{
		"digits":    {"123456", true},
		"UTF-8":     {"pass wörd", true},
		"longest":   {strings.Repeat("1", 64), true},
		"empty":     {"", false},
		"too long":  {strings.Repeat("1", 65), false},
		"newline":   {"1234\n", false},
		"zero byte": {"12\x0034", false},
		"delete":    {"12\x7F34", false},
	} {
		p, err := secret.NewPIN([]byte(tc.pin))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && string(p.Bytes()) != tc.pin {
			t.Errorf("%s: the PIN is not what was given", name)
		}
		if err != nil && tc.pin != "" && strings.Contains(err.Error(), tc.pin) {
			t.Errorf("%s: the error shows the PIN", name)
		}
	}
}

func ExampleSecret() {
	key := secret.New([]byte{0x40, 0x41, 0x42, 0x43})
	defer key.Wipe()
	fmt.Println(key, key.Len())
	fmt.Printf("%x %+v\n", key, struct{ K secret.Secret }{key})
	_, err := json.Marshal(map[string]any{"key": key})
	fmt.Println(err != nil)
	// Output:
	// [redacted] 4
	// [redacted] {K:[redacted]}
	// true
}
