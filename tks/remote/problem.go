package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/local"
)

// problemType is the media type of a refusal (RFC 9457 §3).
const problemType = "application/problem+json"

// maxDetail bounds the text of a refusal, in bytes.
const maxDetail = 2048

// problem is a refusal. Error is the name of what errors.Is finds in it; empty for an
// error without one.
type problem struct {
	Type      string     `json:"type"`
	Title     string     `json:"title"`
	Status    int        `json:"status"`
	Detail    string     `json:"detail"`
	Error     string     `json:"error,omitempty"`
	Mechanism *mechanism `json:"mechanism,omitempty"`
}

// mechanism is a *hsm.MechanismError.
type mechanism struct {
	Token      string      `json:"token"`
	Operation  string      `json:"operation"`
	Candidates []candidate `json:"candidates"`
	Remedy     string      `json:"remedy"`
}

// candidate is an hsm.Candidate.
type candidate struct {
	Name   string `json:"name"`
	Number uint   `json:"number"`
	Reason string `json:"reason"`
}

// ErrRequest means that one end does not understand the other: a field that is
// missing, unknown or too long.
var ErrRequest = errors.New("request is not as the key service expects it")

// kinds are the errors that keep their name on the way. The first that fits counts:
// what is unavailable may be asked elsewhere, whatever else it is.
var kinds = []struct {
	name   string
	err    error
	status int
}{
	{"ErrUnavailable", tks.ErrUnavailable, http.StatusServiceUnavailable},
	{"ErrDenied", tks.ErrDenied, http.StatusForbidden},
	{"ErrCryptogram", tks.ErrCryptogram, http.StatusUnprocessableEntity},
	{"ErrUnknownKeyVersion", tks.ErrUnknownKeyVersion, http.StatusNotFound},
	{"ErrUnsupported", apdu.ErrUnsupported, http.StatusNotImplemented},
	{"ErrNotFound", hsm.ErrNotFound, http.StatusNotFound},
	{"ErrExists", hsm.ErrExists, http.StatusConflict},
	{"ErrGranted", local.ErrGranted, http.StatusConflict},
	{"ErrNotGranted", local.ErrNotGranted, http.StatusConflict},
	{"ErrRequest", ErrRequest, http.StatusBadRequest},
}

// mechanismName is the name of a *hsm.MechanismError.
const mechanismName = "MechanismError"

// problemOf is what a caller is told of an error.
func problemOf(err error) problem {
	p := problem{Type: "about:blank", Status: http.StatusInternalServerError, Detail: printable(err.Error())}
	var missing *hsm.MechanismError
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", err, tks.ErrUnavailable)
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			p.Error, p.Status = k.name, k.status
			break
		}
	}
	if p.Error == "" && errors.As(err, &missing) {
		p.Error, p.Status = mechanismName, http.StatusNotImplemented
		p.Mechanism = &mechanism{Token: missing.Token, Operation: missing.Operation, Remedy: missing.Remedy}
		for _, c := range missing.Candidates {
			p.Mechanism.Candidates = append(p.Mechanism.Candidates, candidate(c))
		}
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// printable is text on one line, of a length that a log takes.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "")
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// Error is what a node answered instead of what it was asked for.
type Error struct {
	Node   string
	Name   string // of the error there, as ErrDenied; empty for one without a name
	Detail string // its text
	err    error  // what it is
}

// Error implements error.
func (e *Error) Error() string { return e.Detail + " (" + e.Node + ")" }

// Unwrap gives the error of that name.
func (e *Error) Unwrap() error { return e.err }

// readProblem is a refusal as an error; ok is false where the body is no refusal of
// a key service, or one for want of its keys.
func readProblem(node string, body []byte) (e *Error, ok bool) {
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || p.Status < 400 || p.Detail == "" {
		return nil, false
	}
	e = &Error{Node: node, Name: p.Error, Detail: printable(p.Detail)}
	if p.Error == mechanismName && p.Mechanism != nil {
		missing := &hsm.MechanismError{Token: p.Mechanism.Token, Operation: p.Mechanism.Operation, Remedy: p.Mechanism.Remedy}
		for _, c := range p.Mechanism.Candidates {
			missing.Candidates = append(missing.Candidates, hsm.Candidate(c))
		}
		e.err = missing
	}
	for _, k := range kinds {
		if k.name == p.Error {
			e.err = k.err
		}
	}
	return e, true
}
