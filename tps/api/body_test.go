package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"inkan/apdu/secret"
	"inkan/tps/api"
)

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`""`: "", `"a b"`: "a b", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u00e9\u00E9é"`: "ééé", `"\ud83d\ude00"`: "😀",
		`"\ud83d"`: "\uFFFD", `"\ud83dx"`: "\uFFFDx", `"\ude00\ud83d"`: "\uFFFD\uFFFD", `"\ud83d\ud83d\ude00"`: "\uFFFD😀",
	} {
		var v struct{ P api.Text }
		raw := []byte(`{"P": ` + in + `}`)
		if err := json.Unmarshal(raw, &v); err != nil || string(v.P.Bytes()) != want {
			t.Errorf("%s: %q, %v", in, v.P.Bytes(), err)
		}
	}
	for _, in := range []string{`1`, `null`, `{}`, `["a"]`, "\"\xff\"", `true`} {
		var v struct{ P api.Text }
		if err := json.Unmarshal([]byte(`{"P": `+in+`}`), &v); err == nil && in != "null" || !v.P.IsZero() {
			t.Errorf("%s is taken", in)
		}
	}
	var x api.Text
	b := []byte(`"grace hopper"`)
	if err := x.UnmarshalJSON(b); err != nil || strings.Contains(string(b), "grace") {
		t.Errorf("left behind: %s, %v", b, err)
	}
	if out := fmt.Sprintf("%v %+v %s %q %x", x, struct{ x api.Text }{x}, x, x, x); strings.Contains(out, "grace") || strings.Contains(out, "6772616365") {
		t.Error(out)
	}
	if b, err := json.Marshal(x); err == nil {
		t.Errorf("marshalled to %s", b)
	}
	for _, bad := range []string{`"\x"`, `"\`, `"\u12"`, `"\uzzzz"`, `"`, ``} { // what encoding/json never hands over
		if err := x.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestEncodeSecret(t *testing.T) {
	t.Parallel()
	s := secret.New([]byte("a\"\\\x00\x1f\né😀/"))
	for name, v := range map[string]any{"struct": struct{ A int }{1}, "empty": struct{}{}, "map": map[string]string{"A": "1"}} {
		b, err := api.EncodeSecret(v, "pass\"word", s)
		must(t, err)
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil || got["pass\"word"] != string(s.Bytes()) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
	for name, bad := range map[string]func() ([]byte, error){
		"list":  func() ([]byte, error) { return api.EncodeSecret([]int{1}, "p", s) },
		"bytes": func() ([]byte, error) { return api.EncodeSecret(struct{}{}, "p", secret.New([]byte("\xff"))) },
		"error": func() ([]byte, error) { return api.EncodeSecret(func() {}, "p", s) },
	} {
		if b, err := bad(); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
}

// FuzzTextMatchesJSON: a secret decodes to what encoding/json makes of the string.
func FuzzTextMatchesJSON(f *testing.F) {
	for _, s := range []string{`""`, `"a"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\\\""`, `1`, `"é`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) { // encoding/json repairs it, a password is not to be guessed
			return
		}
		var want string
		werr := json.Unmarshal(b, &want)
		var got api.Text
		gerr := json.Unmarshal(b, &got)
		if werr == nil && strings.TrimSpace(string(b)) == "null" {
			return
		}
		if (werr == nil) != (gerr == nil) || string(got.Bytes()) != want {
			t.Errorf("got %q, %v; want %q, %v", got.Bytes(), gerr, want, werr)
		}
	})
}

// FuzzEncodeSecretRoundTrip: what is sent is what is received.
func FuzzEncodeSecretRoundTrip(f *testing.F) {
	f.Add("a\"\\\x00\u2028é", "password")
	f.Fuzz(func(t *testing.T, s, name string) {
		if !utf8.ValidString(s) || !utf8.ValidString(name) {
			return
		}
		b, err := api.EncodeSecret(struct{}{}, name, secret.New([]byte(s)))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]api.Text
		if err := json.Unmarshal(b, &got); err != nil || string(got[name].Bytes()) != s {
			t.Errorf("%q came back as %q: %v", s, got[name].Bytes(), err)
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	if h, err := api.New(api.Config{}); err == nil || h != nil {
		t.Error("an empty configuration is taken")
	}
	e := &api.Error{Status: 409, Message: "no", Err: errors.ErrUnsupported}
	if !errors.Is(e, errors.ErrUnsupported) || !strings.Contains(e.Error(), "no") {
		t.Errorf("got %v", e)
	}
}
