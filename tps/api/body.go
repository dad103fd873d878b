package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"unicode/utf16"
	"unicode/utf8"

	"inkan/apdu/secret"
)

// maxBody is the largest body that is read, in bytes.
const maxBody = 64 << 10

// decode reads the JSON object of a request into v, strictly: one object, no
// unknown name, nothing behind it. The bytes that were read are wiped.
func (c *call) decode(v any) error {
	media, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "the body has to be application/json")
	}
	b, err := io.ReadAll(http.MaxBytesReader(nil, c.Body, maxBody))
	defer clear(b)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return badRequest("the body could not be read")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("the body is not what is expected here: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body goes on behind its object")
	}
	return nil
}

// Text is a JSON string that is a secret. It decodes only; [EncodeSecret] is the
// other way.
type Text struct{ secret.Secret }

var errText = errors.New("a secret has to be a JSON string of valid UTF-8")

// UnmarshalJSON implements json.Unmarshaler. It overwrites what it was given: that
// is the decoder's buffer, which nobody else can reach to wipe it.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errText
	}
	inside := b[1 : len(b)-1]
	out, err := unescape(inside)
	for i := range inside {
		inside[i] = 'x'
	}
	if err != nil {
		return err
	}
	t.Secret = secret.New(out)
	return nil
}

// escapes are RFC 8259 §7's with two characters.
var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape decodes the inside of a JSON string; a lone surrogate becomes U+FFFD,
// as encoding/json has it. The result never grows, so no copy of it stays behind.
func unescape(s []byte) ([]byte, error) {
	if !utf8.Valid(s) {
		return nil, errText
	}
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		if s[0] != '\\' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		if len(s) < 2 {
			clear(out)
			return nil, errText
		}
		if c, ok := escapes[s[1]]; ok {
			out, s = append(out, c), s[2:]
			continue
		}
		r, n := unicodeEscape(s)
		if n == 0 {
			clear(out)
			return nil, errText
		}
		out, s = utf8.AppendRune(out, r), s[n:]
	}
	return out, nil
}

// unicodeEscape decodes \uXXXX, or a surrogate pair of them, and how long it was.
func unicodeEscape(s []byte) (r rune, n int) {
	high, ok := hex4(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(high) {
		return high, 6
	}
	if low, ok := hex4(s[6:]); ok {
		if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
			return r, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// EncodeSecret is the JSON of v, an object, with the secret s as one more member.
// The caller wipes the result. It fails where s is not valid UTF-8.
func EncodeSecret(v any, name string, s secret.Secret) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a request: %w", err)
	}
	return AddSecret(b, name, s)
}

// AddSecret adds another secret to the JSON object b, which is wiped.
func AddSecret(b []byte, name string, s secret.Secret) ([]byte, error) {
	defer clear(b)
	key, err := json.Marshal(name)
	if err != nil || len(b) < 2 || b[0] != '{' {
		return nil, errors.New("encoding a request: a secret goes into an object")
	}
	if !utf8.Valid(s.Bytes()) {
		return nil, fmt.Errorf("encoding a request: %w", errText)
	}
	out := make([]byte, 0, len(b)+len(key)+6*s.Len()+4)
	out = append(out, b[:len(b)-1]...)
	if len(b) > 2 {
		out = append(out, ',')
	}
	out = append(append(out, key...), ':', '"')
	for _, c := range s.Bytes() {
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = append(out, '\\', 'u', '0', '0', '0'+c>>4, "0123456789abcdef"[c&0xF])
		default:
			out = append(out, c)
		}
	}
	return append(out, '"', '}'), nil
}
