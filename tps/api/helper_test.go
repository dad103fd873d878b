package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
	"inkan/tps/token"
)

// node is a handler on a real store, with the key side and the engine faked.
type node struct {
	t       *testing.T
	db      *store.DB
	handler http.Handler
	log     *syncBuffer
	audit   *events
	keys    *keys
	engine  *engine
	backups *backups
	realm   *realm.Realm
}

// newNode starts one; edit may replace parts of its configuration.
func newNode(t *testing.T, edit ...func(*api.Config)) *node {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	n := &node{t: t, db: db, log: &syncBuffer{}, audit: &events{}, keys: &keys{ledger: map[gp.KDD]api.Keying{}}, engine: &engine{db: db}, backups: &backups{}}
	n.realm, err = realm.New(realm.Config{Store: db, Vault: &realmtest.Vault{}, Audit: n.audit, Issuer: "https://tps.example.org"})
	must(t, err)
	cfg := api.Config{Tokens: db, Certificates: db, Activities: db, Journals: db, Profiles: db, Mappings: db, Users: db, KeySets: n.keys, Keyings: n.keys, Secrets: n.keys,
		Revoker: n.engine, Backups: n.backups, Realm: n.realm, Tickets: realm.NewTickets(n.realm, db, db), Audit: n.audit, AuditRecord: record{}, Log: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, e := range edit {
		e(&cfg)
	}
	n.handler, err = api.New(cfg)
	must(t, err)
	return n
}

// root may do everything.
var root = api.Caller{Name: "local:root", Roles: auth.Roles, Address: "192.0.2.9"}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

// as sends a request as somebody; header are pairs. A body that is no "" is JSON.
func (n *node) as(who api.Caller, method, path, body string, header ...string) answer {
	n.t.Helper()
	r := httptest.NewRequest(method, api.Base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	n.handler.ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), who)))
	return answer{n.t, w.Code, w.Header(), w.Body.String()}
}

func (n *node) do(method, path, body string, header ...string) answer {
	n.t.Helper()
	return n.as(root, method, path, body, header...)
}

// want checks the status, and that the body holds every text.
func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, s := range texts {
		if !strings.Contains(a.body, s) {
			a.t.Errorf("no %q in %s", s, a.body)
		}
	}
	return a
}

// decode reads the body, strictly.
func decode[T any](a answer) T {
	a.t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		a.t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// syncBuffer takes a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// events is an audit log in memory; after room events, if set, it is full.
type events struct {
	mu   sync.Mutex
	all  []audit.Event
	room int
}

var errFull = errors.New("audit log is full")

func (e *events) Record(_ context.Context, ev audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.room != 0 && len(e.all) >= e.room {
		return errFull
	}
	c := ev
	c.Fields = map[string]string{}
	for k, v := range ev.Fields {
		c.Fields[k] = v
	}
	e.all = append(e.all, c)
	return nil
}

// outcomes lists "NAME outcome" and forgets the events.
func (e *events) outcomes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.all {
		out = append(out, ev.Name+" "+string(ev.Outcome))
	}
	e.all = nil
	return out
}

// keys is a key service in memory.
type keys struct {
	sets   []api.KeySet
	ledger map[gp.KDD]api.Keying
	by     string          // of the last change
	values []secret.Secret // imported
	err    error           // of every call, if set
}

// CardSecret answers with what is easily told from other things.
func (k *keys) CardSecret(_ context.Context, r tks.SecretRequest) (tks.SecretReply, error) {
	if k.err != nil {
		return tks.SecretReply{}, k.err
	}
	if r.Use == tks.PUK {
		return tks.SecretReply{Secret: secret.New([]byte("48151623"))}, nil
	}
	return tks.SecretReply{Secret: secret.New([]byte{r.Algorithm, byte(r.KeyVersion), 0xAB})}, nil
}

func (k *keys) CreateKeySet(_ context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, kdf string) (api.KeySet, error) {
	if k.err != nil {
		return api.KeySet{}, k.err
	}
	s := api.KeySet{ID: string(name) + "/" + v.String(), Name: string(name), Version: v.String(), Type: keyType, KDF: kdf}
	if slices.ContainsFunc(k.sets, func(o api.KeySet) bool { return o.ID == s.ID }) {
		return api.KeySet{}, token.ErrConflict
	}
	k.sets = append(k.sets, s)
	slices.SortFunc(k.sets, func(a, b api.KeySet) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

func (k *keys) CheckKeySet(_ context.Context, name tks.KeySetName, v gp.KeyVersion, _, _ string) error {
	if slices.ContainsFunc(k.sets, func(o api.KeySet) bool { return o.ID == string(name)+"/"+v.String() }) {
		return token.ErrConflict
	}
	return k.err
}

func (k *keys) ImportKeySet(_ context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, kdf string, values []secret.Secret, kcvs []gp.KCV) ([]api.KeySet, error) {
	if k.err != nil {
		return nil, k.err
	}
	var out []api.KeySet
	for i, value := range values {
		s := api.KeySet{ID: string(name) + "/" + v.String(), Name: string(name), Version: v.String(), Type: keyType, KDF: kdf, Origin: "imported", KCV: kcvs[i].String()}
		if slices.ContainsFunc(k.sets, func(o api.KeySet) bool { return o.ID == s.ID }) {
			return nil, token.ErrConflict
		}
		k.values = append(k.values, value.Clone())
		out = append(out, s)
	}
	k.sets = append(k.sets, out...)
	return out, nil
}

func (k *keys) KeySets(context.Context) ([]api.KeySet, error) { return k.sets, k.err }

func (k *keys) TestKeySet(context.Context, tks.KeySetName, gp.KeyVersion) error { return k.err }

func (k *keys) Retire(_ context.Context, name tks.KeySetName, v gp.KeyVersion, by string) error {
	for i := range k.sets {
		if k.sets[i].ID == string(name)+"/"+v.String() {
			k.sets[i].Retired, k.by = true, by
		}
	}
	return k.err
}

func (k *keys) Keying(_ context.Context, kdd gp.KDD) (api.Keying, bool, error) {
	e, ok := k.ledger[kdd]
	return e, ok, k.err
}

func (k *keys) Release(_ context.Context, kdd gp.KDD, by string) error {
	if _, ok := k.ledger[kdd]; !ok {
		return token.ErrNotFound
	}
	delete(k.ledger, kdd)
	k.by = by
	return k.err
}

// engine notes what it is asked, and answers err.
type engine struct {
	db    *store.DB
	asked []tps.CertificateChange
	state []tps.StateChange
	err   error
}

func (e *engine) ChangeCertificate(ctx context.Context, ch tps.CertificateChange) (token.Certificate, error) {
	e.asked = append(e.asked, ch)
	if e.err != nil {
		return token.Certificate{}, e.err
	}
	return e.db.Certificate(ctx, ch.ID)
}

func (e *engine) SetTokenState(ctx context.Context, ch tps.StateChange) (token.Token, []token.Certificate, error) {
	e.state = append(e.state, ch)
	if e.err != nil {
		return token.Token{}, nil, e.err
	}
	t, err := e.db.Token(ctx, ch.CUID)
	if err != nil {
		return t, nil, err
	}
	t.State = ch.State
	certs, err := e.db.CertificatesOf(ctx, ch.CUID)
	return t, certs, err
}

// backups remembers what it was given.
type backups struct {
	path       string
	passphrase []byte        // copy of what came
	kept       secret.Secret // what came itself
	err        error
}

func (b *backups) Backup(context.Context) (api.Backup, error) {
	return api.Backup{Kind: "file", Keys: []string{"tms:master:site:v02"}}, b.err
}

func (b *backups) WriteBackup(_ context.Context, path string, p secret.Secret) (api.Backup, error) {
	b.path, b.passphrase, b.kept = path, bytes.Clone(p.Bytes()), p
	return api.Backup{Kind: "file", Keys: []string{"tms:master:site:v02"}, Path: path, Checked: "tms:master:site:v02"}, b.err
}

func (b *backups) BackUpFolder(_ context.Context, q api.FolderBackupRequest, _ secret.Secret) (api.FolderBackup, error) {
	b.path = q.Path
	return api.FolderBackup{Path: q.Path, Files: 7, Recipient: q.Recipient}, b.err
}

// record is an audit record of one event.
type record struct{}

func (record) Prove(context.Context) (audit.Proof, error) {
	return audit.Proof{Summary: audit.Summary{Events: 2, Head: "AB"}, Checkpoints: 1, Signed: audit.Head{Seq: 1}, Unsigned: 1}, nil
}

func (r record) Export(ctx context.Context, path string) (audit.Proof, error) {
	p, _ := r.Prove(ctx)
	return p, fmt.Errorf("%w: line 2: %s", audit.ErrTampered, path)
}
