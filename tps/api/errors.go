package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// Error is a request that was refused or failed. What a room behind the handler
// returns as *Error goes to the caller with its status.
type Error struct {
	Status  int // HTTP
	Message string
	Err     error // for log and audit; nil = Message says it all
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func refuse(status int, format string, args ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// missing replaces a store's ErrNotFound by a sentence.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, token.ErrNotFound) {
		return refuse(http.StatusNotFound, format, args...)
	}
	return err
}

// statuses are what errors of other rooms become. The first that matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{token.ErrUnavailable, http.StatusServiceUnavailable},
	{tks.ErrUnavailable, http.StatusServiceUnavailable},
	{ca.ErrUnavailable, http.StatusServiceUnavailable},
	{tps.ErrCertificateState, http.StatusConflict},
	{tps.ErrTokenState, http.StatusBadRequest},
	{realm.ErrNoKey, http.StatusServiceUnavailable},
	{realm.ErrRefused, http.StatusConflict},
	{realm.ErrInput, http.StatusBadRequest},
	{realm.ErrToken, http.StatusUnauthorized},
	{token.ErrLocked, http.StatusConflict},
	{token.ErrConflict, http.StatusConflict},
	{token.ErrNotFound, http.StatusNotFound},
	{tks.ErrUnknownKeyVersion, http.StatusNotFound},
	{tks.ErrDenied, http.StatusForbidden},
	{auth.ErrPassword, http.StatusBadRequest},
	{apdu.ErrUnsupported, http.StatusBadRequest},
	{ca.ErrRefused, http.StatusConflict},
	{ca.ErrUnknown, http.StatusBadGateway},
	{ca.ErrNotIssuer, http.StatusBadGateway},
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
}

// describe is the one place where an error becomes a status and a text. What
// nobody foresaw is told to administrators only.
func describe(err error, who Caller) (status int, message string) {
	var e *Error
	if errors.As(err, &e) {
		return e.Status, e.Message
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status, err.Error()
		}
	}
	if who.is(auth.Admin) {
		return http.StatusInternalServerError, err.Error()
	}
	return http.StatusInternalServerError, "internal error, the log of the node has the details"
}

// classes are Dogtag's names of what went wrong (tps-rest-api.md §1.3).
var classes = map[int]string{
	http.StatusBadRequest:   "BadRequestException",
	http.StatusUnauthorized: "UnauthorizedException",
	http.StatusForbidden:    "ForbiddenException",
	http.StatusNotFound:     "ResourceNotFoundException",
	http.StatusConflict:     "ConflictingOperationException",
}

// Problem is the body of every error: the details of RFC 9457, and the fields of
// Dogtag's PKIException.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`

	Attributes struct {
		Attribute []string `json:"Attribute"`
	} `json:"Attributes"`
	ClassName string `json:"ClassName"`
	Code      int    `json:"Code"`
	Message   string `json:"Message"`
}

func newProblem(status int, message string) Problem {
	class, ok := classes[status]
	if !ok {
		class = "PKIException"
	}
	p := Problem{Title: http.StatusText(status), Status: status, Detail: message,
		ClassName: "com.netscape.certsrv.base." + class, Code: status, Message: message}
	p.Attributes.Attribute = []string{}
	return p
}

// fail answers an error.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	who, _ := r.Context().Value(callerKey{}).(Caller)
	status, message := describe(err, who)
	level := slog.LevelDebug
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	a.Log.LogAttrs(r.Context(), level, "request failed", slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.String("user", who.Name), slog.Int("status", status), slog.Any("err", err))
	a.write(w, r, status, "application/problem+json", newProblem(status, message))
}

// answer answers a success.
func (a *api) answer(w http.ResponseWriter, r *http.Request, out reply) {
	if out.location != "" {
		w.Header().Set("Location", Base+out.location)
	}
	if out.revision != 0 {
		w.Header().Set("ETag", etag(out.revision))
	}
	if out.body == nil {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if out.status == 0 {
		out.status = http.StatusOK
	}
	a.write(w, r, out.status, "application/json", out.body)
}

func (a *api) write(w http.ResponseWriter, r *http.Request, status int, media string, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil { // a type of this package that does not encode
		a.Log.ErrorContext(r.Context(), "encoding an answer", slog.Any("err", err))
		status, b = http.StatusInternalServerError, []byte(`{"status": 500}`)
	}
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(append(b, '\n')); err != nil {
		a.Log.DebugContext(r.Context(), "answer not taken", slog.Any("err", err))
	}
}

func etag(revision int64) string { return strconv.Quote(strconv.FormatInt(revision, 10)) }
