package kiosk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// maxField is how much can be typed into one field, in bytes.
const maxField = 256

// field is one line that is typed. Its buffer never grows, so that wiping it
// leaves no copy behind.
type field struct {
	id, label string
	secret    bool
	text      []byte
}

func newField(id, label string, hidden bool) field {
	return field{id: id, label: label, secret: hidden, text: make([]byte, 0, maxField)}
}

// add takes what was typed or pasted, without control characters.
func (f *field) add(text []byte) {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if !unicode.IsControl(r) && r != utf8.RuneError && len(f.text)+n <= maxField {
			f.text = append(f.text, text[:n]...)
		}
		text = text[n:]
	}
}

func (f *field) backspace() {
	_, n := utf8.DecodeLastRune(f.text)
	clear(f.text[len(f.text)-n:])
	f.text = f.text[:len(f.text)-n]
}

func (f *field) wipe() {
	clear(f.text[:cap(f.text)])
	f.text = f.text[:0]
}

// shown is the field as the screen has it: dots for a secret.
func (f *field) shown() string {
	if f.secret {
		return strings.Repeat("•", utf8.RuneCount(f.text))
	}
	return clean(string(f.text))
}

// form is a question of the server to the person: a login, or a new PIN.
type form struct {
	title   string
	hint    string
	problem string // what was wrong with the last answer
	fields  []field
	at      int
	min     int // of a PIN, bytes; 0 = this is a login
	max     int
}

// loginForm asks what the server asks. known are earlier answers that may be seen.
func loginForm(f auth.Form, known map[string][]byte) *form {
	out := &form{title: clean(f.Title), hint: clean(f.Description)}
	if out.title == "" {
		out.title = "Log in"
	}
	for _, q := range f.Fields {
		label := clean(q.Name)
		if label == "" {
			label = clean(q.ID)
		}
		in := newField(q.ID, label, q.Secret)
		if !q.Secret {
			in.add(known[q.ID])
		}
		out.fields = append(out.fields, in)
	}
	switch {
	case f.Blocked:
		out.problem = "Too many wrong answers. Wait a few minutes."
	case f.Invalid:
		out.problem = "That was not right."
		if slices.ContainsFunc(f.Fields, func(q auth.Field) bool { return q.ID == auth.FieldUser }) {
			out.problem = "User name or password is wrong."
		}
		out.at = max(0, len(out.fields)-1)
	}
	return out
}

// pinForm asks for a PIN of min to max bytes, twice. Another one is asked for
// where the server did not take the last.
func pinForm(min, max int, again bool) *form {
	out := &form{
		title: "Choose a PIN", hint: fmt.Sprintf("%d to %d characters. Nobody else should see you type it.", min, max),
		fields: []field{newField("", "New PIN", true), newField("", "Once more", true)}, min: min, max: max,
	}
	if again {
		out.problem = "That PIN is too simple, or does not keep the rules; a PIV card takes digits alone."
	}
	return out
}

func (f *form) isPIN() bool { return f.max > 0 }

// wipe forgets what was typed.
func (f *form) wipe() {
	for i := range f.fields {
		f.fields[i].wipe()
	}
}

// key edits the form and reports that it is filled in.
func (f *form) key(k Key) (filled bool) {
	if len(f.fields) == 0 {
		return k.Name == "enter"
	}
	in := &f.fields[f.at]
	switch k.Name {
	case "enter":
		if f.at+1 == len(f.fields) {
			return f.complete()
		}
		f.at++
	case "tab", "down":
		f.at = (f.at + 1) % len(f.fields)
	case "shift+tab", "up":
		f.at = (f.at + len(f.fields) - 1) % len(f.fields)
	case "backspace":
		in.backspace()
	case "ctrl+u":
		in.wipe()
	default:
		in.add(k.Text)
	}
	return false
}

func (f *form) complete() bool {
	for i, in := range f.fields {
		if len(in.text) == 0 {
			f.at, f.problem = i, in.label+" is missing."
			return false
		}
	}
	if !f.isPIN() {
		return true
	}
	if err := f.checkPIN(); err != nil {
		f.wipe()
		f.at, f.problem = 0, sentence(err.Error())
		return false
	}
	return true
}

func (f *form) checkPIN() error {
	first, again := secret.New(f.fields[0].text), secret.New(f.fields[1].text)
	if !first.Equal(again) {
		return errors.New("the two are not the same")
	}
	if first.Len() < f.min || first.Len() > f.max {
		return fmt.Errorf("the PIN has to have %d to %d characters", f.min, f.max)
	}
	pin, err := secret.NewPIN(first.Bytes())
	if err == nil {
		err = wire.CheckPIN(pin)
	}
	if err != nil {
		return errors.New("a PIN cannot have these characters: choose letters and digits")
	}
	return nil
}

// answers hands over what was typed into a login.
func (f *form) answers() auth.Answers {
	out := auth.Answers{}
	for _, in := range f.fields {
		out[in.id] = secret.New(in.text).Clone()
	}
	return out
}

// pin hands over the PIN.
func (f *form) pin() secret.PIN { return secret.PIN{Secret: secret.New(f.fields[0].text).Clone()} }

// clean is text from elsewhere (a card, a server) without what moves a cursor or
// changes the direction of writing.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, s))
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return capital(strings.TrimSuffix(s, ".")) + "."
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}
