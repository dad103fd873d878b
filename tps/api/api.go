// Package api is the REST interface to a node's records, people and keys:
// tokens, certificates, activities, operations, profiles and mappings, users, key sets,
// releases and secrets of cards, realm keys, tickets, the audit record, the copy of the key file. [New] returns the handler; paths
// begin with [Base], names and shapes of what Dogtag's TPS has are its own.
//
// Whoever serves the handler says who calls, with [WithCaller]; without a caller
// every request is refused. The table of routes is the table of permissions: a
// route names the roles that may use it. Every change is audited before and
// after. Bodies are decoded strictly and bounded; a password in one is kept as a
// secret, wiped after the request and never logged.
//
// [NewLogin] puts logins by password in front of it and takes their tokens for
// callers.
//
// Not supported: XML. A handler is safe for concurrent use.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// Base is what all paths begin with.
const Base = "/tps/v2"

// Config is what the handler works on. All but DefaultProfile, UnmanagedProfile and Log are required.
type Config struct {
	Tokens       token.Tokens
	Certificates token.Certificates
	Activities   token.Activities
	Journals     token.Journals
	Profiles     profile.Store
	Mappings     profile.Resolvers
	Users        auth.Users
	KeySets      KeySets
	Keyings      Keyings
	Secrets      CardSecrets
	Revoker      Revoker
	Backups      Backups
	Realm        *realm.Realm
	Tickets      *realm.Tickets
	Audit        audit.Log
	AuditRecord  AuditRecord
	// DefaultProfile is the one of cards that no mapping names ([tps] default_profile).
	DefaultProfile token.ProfileName
	// UnmanagedProfile takes its place for cards without a card manager; empty = DefaultProfile.
	UnmanagedProfile token.ProfileName
	Log              *slog.Logger // nil = discard
}

// KeySets are the master keys of the key service. Errors: token.ErrConflict where
// a version exists already, tks.ErrUnknownKeyVersion, tks.ErrUnavailable, [*Error].
type KeySets interface {
	// CreateKeySet makes a master key: keyType is aes-128, aes-192, aes-256, des2 or
	// des3, kdf a diversification or empty for the usual one.
	CreateKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, kdf string) (KeySet, error)
	// CheckKeySet fails where CreateKeySet or ImportKeySet would, as far as that can be
	// told without a key. It changes nothing.
	CheckKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, kdf string) error
	// ImportKeySet stores one master key, or one each for enc, mac and dek, with the
	// check values that their custodians saw. All of them or none.
	ImportKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, kdf string, keys []secret.Secret, kcvs []gp.KCV) ([]KeySet, error)
	KeySets(ctx context.Context) ([]KeySet, error) // by name and version
	TestKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) error
	Retire(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, by string) error
}

// Keyings is the key service's ledger of cards that were keyed from a published
// key set.
type Keyings interface {
	Keying(ctx context.Context, kdd gp.KDD) (k Keying, ok bool, err error)
	// Release lets a card be keyed once more; token.ErrNotFound where it was not.
	Release(ctx context.Context, kdd gp.KDD, by string) error
}

// Revoker changes certificates and the states of cards; tps.Engine is one.
type Revoker interface {
	SetTokenState(ctx context.Context, ch tps.StateChange) (token.Token, []token.Certificate, error)
	ChangeCertificate(ctx context.Context, ch tps.CertificateChange) (token.Certificate, error)
}

// Backups copies the keys of a node.
type Backups interface {
	// Backup says what has to be in a backup of the keys.
	Backup(ctx context.Context) (Backup, error)
	// WriteBackup writes an encrypted copy of the key file to path, absolute and on
	// the node's machine, and checks it by restoring a key.
	WriteBackup(ctx context.Context, path string, passphrase secret.Secret) (Backup, error)
	// BackUpFolder writes the whole data folder, encrypted, to a new file on the
	// node's machine, while the node runs.
	BackUpFolder(ctx context.Context, q FolderBackupRequest, passphrase secret.Secret) (FolderBackup, error)
}

// Caller is who makes a request.
type Caller struct {
	Name    string // in audit and activities
	Roles   []auth.Role
	Address string // network address; empty = this machine
}

// is reports whether the caller has one of the roles.
func (c Caller) is(roles ...auth.Role) bool {
	return slices.ContainsFunc(roles, func(r auth.Role) bool { return slices.Contains(c.Roles, r) })
}

type callerKey struct{}

// WithCaller returns a context whose requests c makes.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// api is the handler.
type api struct {
	Config
	mux    *http.ServeMux
	people sync.Mutex // held while the last administrator could go
	// mappings is held while two documents could come to answer one question.
	mappings sync.Mutex
}

// New returns the handler. It connects to nothing.
func New(cfg Config) (http.Handler, error) {
	for name, missing := range map[string]bool{
		"token store": cfg.Tokens == nil, "certificate store": cfg.Certificates == nil, "activity store": cfg.Activities == nil,
		"journal store": cfg.Journals == nil, "profile store": cfg.Profiles == nil, "mappings": cfg.Mappings == nil, "user store": cfg.Users == nil, "key sets": cfg.KeySets == nil,
		"ledger of keyings": cfg.Keyings == nil, "card secrets": cfg.Secrets == nil, "revoker": cfg.Revoker == nil, "backups": cfg.Backups == nil, "realm": cfg.Realm == nil, "tickets": cfg.Tickets == nil, "audit log": cfg.Audit == nil, "audit record": cfg.AuditRecord == nil,
	} {
		if missing {
			return nil, fmt.Errorf("configuring the REST interface: no %s", name)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &api{Config: cfg, mux: http.NewServeMux()}
	for _, r := range routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		a.mux.Handle(method+" "+Base+path, a.serve(r))
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, ok := r.Context().Value(callerKey{}).(Caller); !ok {
		a.fail(w, r, refuse(http.StatusUnauthorized, "nobody is logged in"))
		return
	}
	if h, pattern := a.mux.Handler(r); pattern == "" {
		a.unknown(w, r, h)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// unknown answers for a path or method that is not there; h is the mux's answer.
func (a *api) unknown(w http.ResponseWriter, r *http.Request, h http.Handler) {
	probe := &statusOnly{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.header.Get("Allow"))
		a.fail(w, r, refuse(probe.status, "%s is not possible here", r.Method))
		return
	}
	a.fail(w, r, refuse(http.StatusNotFound, "there is nothing at this address"))
}

// statusOnly takes an answer's status and header.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header { return s.header }

func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

func (s *statusOnly) WriteHeader(status int) { s.status = status }

// call is one request on a route.
type call struct {
	*http.Request
	who   Caller
	event audit.Event // of a change, as far as it is known
	begun bool        // the attempt is in the audit record
}

// reply is what a route answers.
type reply struct {
	status   int // zero: 200
	body     any // nil: none
	location string
	revision int64 // becomes the ETag; zero: none
}

// serve authorises, runs and audits.
func (a *api) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, _ := req.Context().Value(callerKey{}).(Caller)
		c := &call{Request: req, who: who,
			event: audit.Event{Name: r.event, Subject: who.Name, IP: who.Address,
				Fields: map[string]string{"request": req.Method + " " + req.URL.Path}}}
		out, err := a.run(r, c)
		if err != nil {
			a.fail(w, req, err)
			return
		}
		a.answer(w, req, out)
	})
}

func (a *api) run(r route, c *call) (reply, error) {
	if !slices.Equal(r.allow, anybody) && !c.who.is(r.allow...) {
		return reply{}, a.forbid(r, c)
	}
	if err := c.checkQuery(r.query); err != nil {
		return reply{}, err
	}
	out, err := r.serve(a, c)
	if r.event == "" || err == nil && !c.begun {
		return out, err
	}
	c.event.Outcome = audit.Success
	if err != nil {
		c.event.Outcome, c.event.Fields["info"] = audit.Failure, err.Error()
	}
	if aerr := a.Audit.Record(context.WithoutCancel(c.Context()), c.event); aerr != nil {
		err = errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return out, err
}

// forbid refuses a caller without the role; a change that was tried is audited.
func (a *api) forbid(r route, c *call) error {
	err := refuse(http.StatusForbidden, "that needs the role %s", names(r.allow))
	if r.reads() {
		return err
	}
	e := audit.Event{Name: "AUTHZ", Outcome: audit.Failure, Subject: c.who.Name, IP: c.who.Address,
		Fields: map[string]string{"method": c.Method, "path": c.URL.Path, "info": err.Error()}}
	if aerr := a.Audit.Record(context.WithoutCancel(c.Context()), e); aerr != nil {
		return errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return err
}

// intend writes the attempt; what it audits is not to be done if that fails.
func (a *api) intend(c *call, fields map[string]string) error {
	for k, v := range fields {
		if v != "" {
			c.event.Fields[k] = v
		}
	}
	c.event.Outcome, c.begun = audit.Attempt, true
	if err := a.Audit.Record(c.Context(), c.event); err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	return nil
}

func names(roles []auth.Role) string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return strings.Join(s, " or ")
}
