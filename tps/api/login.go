package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/realm"
)

// Paths below [Base] that need no access token.
const (
	TokenPath  = "/account/token"  // POST: log in with UserID and password or with the connection's certificate, or go on with refresh_token
	LogoutPath = "/account/logout" // POST refresh_token: end the session
)

// LoginConfig is what NewLogin needs; all but Log are required.
type LoginConfig struct {
	API           http.Handler // of [New]
	Authenticator auth.Authenticator
	Logins        *realm.Logins
	Audit         audit.Log
	Log           *slog.Logger // nil = discard
}

// Tokens is the answer of POST account/token but for its secrets "access_token",
// good for ExpiresIn seconds, "refresh_token", good once, and "id_token" where scope openid
// was asked for (OpenID Connect Core 1.0 §3.1.3.3).
type Tokens struct {
	Type      string `json:"token_type"` // Bearer
	ExpiresIn int    `json:"expires_in"` // seconds
}

// login is the handler.
type login struct {
	LoginConfig
	api *api // answers errors
}

// NewLogin returns the REST interface for people who reach it over a network: they
// log in at [TokenPath] and send the access token they get as a bearer token
// (RFC 6750) with everything else. Tokens of a login with a certificate are bound to it
// (RFC 8705): the server asks for certificates and verifies none. Logins are audited.
func NewLogin(cfg LoginConfig) (http.Handler, error) {
	if cfg.API == nil || cfg.Authenticator == nil || cfg.Logins == nil || cfg.Audit == nil {
		return nil, errors.New("configuring logins: handler, authenticator, logins and audit log are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &login{LoginConfig: cfg, api: &api{Config: Config{Log: cfg.Log}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Base+TokenPath, timely(l.token))
	mux.HandleFunc("POST "+Base+LogoutPath, timely(l.logout))
	mux.HandleFunc("/", l.pass)
	return mux, nil
}

// bodyTimeout is how long the body may take of somebody who is not logged in.
const bodyTimeout = 30 * time.Second

// timely bounds the time that a body takes. What has no deadlines is no connection
// from outside.
func timely(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		h(w, r)
	}
}

// pass hands a request on as one of the person whose token it has.
func (l *login) pass(w http.ResponseWriter, r *http.Request) {
	text := bearer(r)
	if text == "" {
		w.Header().Set("WWW-Authenticate", "Bearer")
		l.api.fail(w, r, refuse(http.StatusUnauthorized, "nobody is logged in: POST %s%s", Base, TokenPath))
		return
	}
	p, err := l.Logins.Person(r.Context(), text, connection(r))
	if err != nil {
		if errors.Is(err, realm.ErrToken) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			err = l.unbound(r, tokenError(err, "the access token is not accepted: get another one"))
		}
		l.api.fail(w, r, err)
		return
	}
	caller := Caller{Name: string(p.ID), Roles: p.Roles, Address: address(r)}
	l.API.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), caller)))
}

func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// loginBody is what TokenPath and LogoutPath take.
type loginBody struct {
	UserID   string `json:"UserID"`
	Password Text   `json:"password"`
	Refresh  Text   `json:"refresh_token"`
	// Certificate asks to log in with the one of the connection, in place of the three
	// above.
	Certificate bool `json:"certificate"`
	// Scope openid asks for an id token for ClientID, with Nonce in it.
	Scope    string `json:"scope"`
	ClientID string `json:"client_id"`
	Nonce    string `json:"nonce"`
}

func (l *login) token(w http.ResponseWriter, r *http.Request) {
	var in loginBody
	defer func() { in.Password.Wipe(); in.Refresh.Wipe() }()
	if err := (&call{Request: r}).decode(&in); err != nil {
		l.api.fail(w, r, err)
		return
	}
	g, err := l.grant(r, in)
	if err != nil {
		l.api.fail(w, r, loginError(err))
		return
	}
	defer g.Refresh.Wipe()
	var id string
	if slices.Contains(strings.Fields(in.Scope), realm.ScopeOpenID) {
		if id, err = l.Logins.IDToken(r.Context(), g, in.ClientID, in.Nonce); err != nil {
			l.api.fail(w, r, loginError(err))
			return
		}
	}
	l.hand(w, r, g, id)
}

// grant begins a session, or goes on with one.
func (l *login) grant(r *http.Request, in loginBody) (realm.Grant, error) {
	switch {
	case in.Certificate && (in.UserID != "" || !in.Password.IsZero() || !in.Refresh.IsZero()):
		return realm.Grant{}, badRequest("certificate goes without UserID, password and refresh_token")
	case in.Certificate:
		return l.enterByCard(r)
	case in.Refresh.IsZero():
		return l.enter(r, in)
	}
	g, err := l.Logins.Refresh(r.Context(), in.Refresh.Secret, connection(r))
	return g, l.unbound(r, err)
}

// hand writes the tokens.
func (l *login) hand(w http.ResponseWriter, r *http.Request, g realm.Grant, id string) {
	access := secret.New([]byte(g.Access))
	defer access.Wipe()
	b, err := EncodeSecret(Tokens{Type: "Bearer", ExpiresIn: int(g.Expires.Seconds())}, "access_token", access)
	if err == nil {
		b, err = AddSecret(b, "refresh_token", g.Refresh)
	}
	if err == nil && id != "" {
		b, err = AddSecret(b, "id_token", secret.New([]byte(id)))
	}
	if err != nil {
		l.api.fail(w, r, err)
		return
	}
	defer clear(b)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if _, err := w.Write(b); err != nil {
		l.Log.DebugContext(r.Context(), "answer not taken", slog.Any("err", err))
	}
}

// enter checks a password and begins a session.
func (l *login) enter(r *http.Request, in loginBody) (realm.Grant, error) {
	ctx := r.Context()
	user := secret.New([]byte(in.UserID))
	defer user.Wipe()
	p, err := l.Authenticator.Check(ctx, auth.Answers{auth.FieldUser: user, auth.FieldPassword: in.Password.Secret})
	var g realm.Grant
	if err == nil {
		g, err = l.Logins.Login(ctx, p.ID, address(r))
	}
	return g, l.record(r, in.UserID, map[string]string{"op": "login"}, err)
}

// record audits a login and returns what became of it.
func (l *login) record(r *http.Request, subject string, fields map[string]string, err error) error {
	e := audit.Event{Name: "AUTH", Outcome: audit.Success, Subject: subject, IP: address(r), Fields: fields}
	if err != nil {
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	if aerr := l.Audit.Record(context.WithoutCancel(r.Context()), e); aerr != nil {
		err = errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return err
}

// tokenError is what is said of a token that is not accepted: what is wrong with the
// certificate of its session, or else message.
func tokenError(err error, message string) error {
	refused := (*auth.CertificateError)(nil)
	switch {
	case errors.Is(err, realm.ErrBound):
		message = "the session was begun with a certificate: come over a connection that shows it"
	case errors.As(err, &refused):
		message = refused.Error()
	}
	return &Error{Status: http.StatusUnauthorized, Message: message, Err: err}
}

func loginError(err error) error {
	refused := (*auth.CertificateError)(nil)
	switch {
	case errors.Is(err, auth.ErrThrottled):
		return &Error{Status: http.StatusTooManyRequests, Message: "too many logins have failed: wait, then try again", Err: err}
	case errors.Is(err, realm.ErrToken):
		return tokenError(err, "the session has ended: log in again")
	case errors.As(err, &refused):
		return tokenError(err, "")
	case errors.Is(err, auth.ErrBadCredentials):
		return &Error{Status: http.StatusUnauthorized, Message: "wrong user name or password", Err: err}
	}
	return err
}

func (l *login) logout(w http.ResponseWriter, r *http.Request) {
	var in loginBody
	defer func() { in.Password.Wipe(); in.Refresh.Wipe() }()
	err := (&call{Request: r}).decode(&in)
	if err == nil {
		err = loginError(l.Logins.Logout(r.Context(), in.Refresh.Secret))
	}
	if err != nil {
		l.api.fail(w, r, err)
		return
	}
	l.api.answer(w, r, reply{})
}
