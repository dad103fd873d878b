package wire

import (
	"bytes"
	"fmt"
	"strings"
)

// Names of BEGIN_OP extensions (§6, and design.md §4 for resume and pduBatch).
// Unknown names are ignored by everybody.
const (
	ExtTokenType     = "tokenType"
	ExtKeySet        = "keySet"
	ExtTokenATR      = "tokenATR"
	ExtClientVersion = "clientVersion"
	ExtLocale        = "locale"
	ExtStatusUpdate  = "statusUpdate"
	ExtExtendedLogin = "extendedLoginRequest"
	ExtResume        = "resume"
	ExtPDUBatch      = "pduBatch"
	// ExtProfile names the one profile that will do. tokenType is a wish that a
	// server may pass over; this is none.
	ExtProfile = "profile"
	// ExtTicket: the person has a ticket, and the login asks for it alone.
	ExtTicket = "ticket"
	// ExtDryRun: the operation is not to be done, but to be told of.
	ExtDryRun = "dryRun"
)

// Extension is one name=value of BEGIN_OP.
type Extension struct{ Name, Value string }

// Extensions are the extensions of BEGIN_OP in the order of the message.
type Extensions []Extension

// Get returns the last value of name, and "" if there is none.
func (e Extensions) Get(name string) string {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].Name == name {
			return e[i].Value
		}
	}
	return ""
}

// IsTrue reports whether the value of name is exactly "true" (§15.8).
func (e Extensions) IsTrue(name string) bool { return e.Get(name) == "true" }

// join returns k=v&k=v, which BEGIN_OP carries escaped as one value.
func (e Extensions) join() ([]byte, error) {
	var b []byte
	for i, x := range e {
		if x.Name == "" || x.Value == "" || strings.ContainsAny(x.Name, "&=%") || strings.ContainsAny(x.Value, "&=") {
			return nil, fmt.Errorf("extension %q cannot be written", x.Name)
		}
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, x.Name...)
		b = append(b, '=')
		b = append(b, x.Value...)
	}
	return b, nil
}

// parseExtensions reads the escaped list with the tolerance of §15.5: a trailing
// &, empty values, items without =, and tpsclient's separator %%26. ESC writes
// the text (null) for a value it has not got.
func parseExtensions(escaped []byte) Extensions {
	escaped = bytes.ReplaceAll(escaped, []byte("%%26"), []byte("%26"))
	list, _ := unescape(escaped, false) // never fails when not strict
	var e Extensions
	for item := range bytes.SplitSeq(list, []byte("&")) {
		name, value, ok := bytes.Cut(item, []byte("="))
		if !ok || len(name) == 0 || len(value) == 0 || string(value) == "(null)" {
			continue
		}
		e = append(e, Extension{string(name), string(value)})
	}
	return e
}
