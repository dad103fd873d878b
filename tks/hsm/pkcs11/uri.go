package pkcs11

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"inkan/apdu/secret"
)

// URI is a parsed pkcs11: URI (RFC 7512) that names a token and its module. At
// least one of Token, Serial and Slot selects the token; all that are given must
// match.
type URI struct {
	ModulePath   string // absolute
	Token        string // label
	Serial       string
	Model        string
	Manufacturer string
	Slot         *uint  // slot-id; not stable with every module
	PINSource    string // absolute path of the file that holds the PIN; may be empty
	InitReserved string // what C_Initialize is given as pReserved; most modules want none
}

const scheme = "pkcs11:"

// ParseURI reads a URI such as
//
//	pkcs11:token=inkan?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/inkan/pin
//
// Besides the attributes of the RFC there is x-init-reserved, as p11-kit has it: NSS
// softoken wants its database named there. ParseURI refuses attributes that it would have to ignore, and pin-value: a PIN has no
// place in a configuration.
func ParseURI(s string) (URI, error) {
	u, err := parseURI(s)
	if err != nil {
		return URI{}, fmt.Errorf("parsing pkcs11: URI: %w", err)
	}
	return u, nil
}

func parseURI(s string) (URI, error) {
	var u URI
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return u, fmt.Errorf("it does not begin with %s", scheme)
	}
	path, query, _ := strings.Cut(rest, "?")
	if err := attributes(path, ";", u.setPath); err != nil {
		return u, err
	}
	if err := attributes(query, "&", u.setQuery); err != nil {
		return u, err
	}
	return u, u.check()
}

// attributes splits name=value pairs, each name at most once.
func attributes(s, sep string, set func(name, value string) error) error {
	if s == "" {
		return nil
	}
	seen := map[string]bool{}
	for _, part := range strings.Split(s, sep) {
		name, raw, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is not of the form name=value", name)
		}
		if seen[name] {
			return fmt.Errorf("%s stands twice", name)
		}
		seen[name] = true
		value, err := url.PathUnescape(raw)
		if err != nil || strings.ContainsRune(value, 0) {
			return fmt.Errorf("value of %s is not percent-encoded text", name)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (u *URI) setPath(name, value string) error {
	switch name {
	case "token":
		u.Token = value
	case "serial":
		u.Serial = value
	case "model":
		u.Model = value
	case "manufacturer":
		u.Manufacturer = value
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			return fmt.Errorf("slot-id %q is not a number", value)
		}
		slot := uint(n)
		u.Slot = &slot
	default:
		return fmt.Errorf("attribute %s is not supported: a token is named by token, serial, model, manufacturer and slot-id", name)
	}
	return nil
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		u.ModulePath = value
	case "pin-source":
		return u.setPINSource(value)
	case "x-init-reserved":
		u.InitReserved = value
	case "pin-value":
		return errors.New("pin-value is refused: write the PIN into a file of mode 0400 and name it with pin-source=file:/path")
	default:
		return fmt.Errorf("attribute %s is not supported: module-path, pin-source and x-init-reserved are", name)
	}
	return nil
}

func (u *URI) setPINSource(v string) error {
	path := v
	if rest, ok := strings.CutPrefix(v, "file:"); ok {
		path = rest
		if host, ok := strings.CutPrefix(rest, "//"); ok {
			path = strings.TrimPrefix(host, "localhost")
		}
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("pin-source %q is not an absolute file name", v)
	}
	u.PINSource = path
	return nil
}

func (u URI) check() error {
	if !filepath.IsAbs(u.ModulePath) {
		return errors.New("module-path must be the absolute file name of the PKCS #11 module")
	}
	if u.Token == "" && u.Serial == "" && u.Slot == nil {
		return errors.New("no token named: give token, serial or slot-id")
	}
	return nil
}

// String is the URI again, percent-encoded. It holds no secret.
func (u URI) String() string {
	var path, query []string
	add := func(to *[]string, name, value string) {
		if value != "" {
			*to = append(*to, name+"="+escape(value))
		}
	}
	add(&path, "token", u.Token)
	add(&path, "serial", u.Serial)
	add(&path, "model", u.Model)
	add(&path, "manufacturer", u.Manufacturer)
	if u.Slot != nil {
		add(&path, "slot-id", strconv.FormatUint(uint64(*u.Slot), 10))
	}
	add(&query, "module-path", u.ModulePath)
	if u.PINSource != "" {
		add(&query, "pin-source", "file:"+u.PINSource)
	}
	add(&query, "x-init-reserved", u.InitReserved)
	s := scheme + strings.Join(path, ";")
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	return s
}

// escape keeps what RFC 7512 permits in both parts, and nothing else.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/:", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// maxPIN bounds a PIN file.
const maxPIN = 1024

// readPIN reads the pin-source: the first line of a small file.
func readPIN(path string) (secret.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("reading PIN: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxPIN+1)
	n := 0
	for n < len(b) {
		m, err := f.Read(b[n:])
		n += m
		if err != nil {
			break
		}
	}
	if n > maxPIN {
		clear(b)
		return secret.Secret{}, fmt.Errorf("reading PIN: %s has more than %d bytes", path, maxPIN)
	}
	end := n
	for i, c := range b[:n] {
		if c == '\n' || c == '\r' {
			end = i
			break
		}
	}
	pin := secret.New(append([]byte(nil), b[:end]...))
	clear(b)
	if pin.IsZero() {
		return secret.Secret{}, fmt.Errorf("reading PIN: %s is empty", path)
	}
	return pin, nil
}
