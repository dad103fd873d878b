//go:build unix

package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu/killtest"
	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/store"
)

// steps is called before and after what reaches the vault or the database; nil: nobody
// counts it.
type steps func()

func (s steps) next() {
	if s != nil {
		s()
	}
}

// around is a step before and one after.
func (s steps) around(do func() error) error {
	s.next()
	err := do()
	s.next()
	return err
}

// killedVault notes every name that it is to make a key under.
type killedVault struct {
	realm.Vault
	s     steps
	names string // a file
}

func (v killedVault) note(name string) error {
	f, err := os.OpenFile(v.names, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, name)
	return errors.Join(err, f.Close())
}

func (v killedVault) Generate(ctx context.Context, name string, k realm.Kind) (out crypto.Signer, err error) {
	if err := v.note(name); err != nil {
		return nil, err
	}
	err = v.s.around(func() (err error) { out, err = v.Vault.Generate(ctx, name, k); return err })
	return out, err
}

func (v killedVault) Import(ctx context.Context, name string, key crypto.Signer) error {
	if err := v.note(name); err != nil {
		return err
	}
	return v.s.around(func() error { return v.Vault.Import(ctx, name, key) })
}

func (v killedVault) Destroy(ctx context.Context, name string) error {
	return v.s.around(func() error { return v.Vault.Destroy(ctx, name) })
}

type killedStore struct {
	*store.DB
	s steps
}

func (d killedStore) BeginKey(ctx context.Context, m realm.Making) error {
	return d.s.around(func() error { return d.DB.BeginKey(ctx, m) })
}

func (d killedStore) EndKey(ctx context.Context, material string) error {
	return d.s.around(func() error { return d.DB.EndKey(ctx, material) })
}

func (d killedStore) ChangeRealm(ctx context.Context, ch realm.Change) error {
	return d.s.around(func() error { return d.DB.ChangeRealm(ctx, ch) })
}

type silent struct{}

func (silent) Record(context.Context, audit.Event) error { return nil }

// realmOf opens a realm over a key file and a database in a folder.
func realmOf(t *testing.T, folder string, s steps) (*realm.Realm, *store.DB, *softkey.Store) {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(folder, "inkan.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	keys, err := softkey.Open(filepath.Join(folder, "keystore"), secret.New([]byte("a passphrase")))
	must(t, err)
	t.Cleanup(func() { keys.Close() })
	r, err := realm.New(realm.Config{Store: killedStore{db, s}, Vault: killedVault{server.RealmVault(keys), s, filepath.Join(folder, "names")}, Node: "lab", Own: true, Audit: silent{}, Issuer: "https://localhost"})
	must(t, err)
	return r, db, keys
}

// realmChanges are what is killed. Each may be asked for again.
var realmChanges = map[string]func(context.Context, *realm.Realm) error{
	"add": func(ctx context.Context, r *realm.Realm) error {
		_, err := r.Add(ctx, realm.NewKey{Provider: realm.Generated, Algorithm: realm.EdDSA}, "test")
		return err
	},
	"import": func(ctx context.Context, r *realm.Realm) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		text := secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		_, err = r.Add(ctx, realm.NewKey{Provider: realm.PEM, Material: text, Priority: 200}, "test")
		return err
	},
	"rotate": func(ctx context.Context, r *realm.Realm) error {
		_, _, err := r.Rotate(ctx, realm.ForSessions, realm.ES256, "test")
		return err
	},
	"delete": func(ctx context.Context, r *realm.Realm) error {
		_, err := r.Delete(ctx, "old", "test")
		if errors.Is(err, realm.ErrRefused) { // it is deleted
			return nil
		}
		return err
	},
	"compromised": func(ctx context.Context, r *realm.Realm) error {
		_, err := r.Compromised(ctx, "old", "test")
		return err
	},
}

// TestRealmKilled kills a process at every step of every change of the keys, before and
// after vault and database did their part. When it is back, every private half in the
// key file has its record and every record that signs has its private half; and the
// change is made again. Without INKAN_REAL it tries every third step.
func TestRealmKilled(t *testing.T) {
	base := t.TempDir()
	made, err := softkey.Create(filepath.Join(base, "keystore"), secret.New([]byte("a passphrase")), softkeytest.Cheap())
	must(t, err)
	must(t, made.Close())
	r, db, keys := realmOf(t, base, nil)
	must(t, r.Prepare(t.Context()))
	_, err = r.Add(t.Context(), realm.NewKey{Provider: realm.Generated, Name: "old", Priority: 300}, "test")
	must(t, err)
	must(t, db.Close())
	must(t, keys.Close())
	step := 3
	if os.Getenv("INKAN_REAL") != "" {
		step = 1
	}
	for name := range realmChanges {
		t.Run("change="+name, func(t *testing.T) {
			t.Parallel()
			at, tried := 1, 0
			for ; ; at += step {
				folder := t.TempDir()
				must(t, os.CopyFS(folder, os.DirFS(base)))
				must(t, os.Chmod(filepath.Join(folder, "keystore"), 0o600))
				if !killtest.Kill(t, "TestRealmKilledChild", at, folder, name) {
					break
				}
				checkRealm(t, folder, name, at)
				tried++
			}
			fmt.Printf("kills realm change=%s tried=%d\n", name, tried)
			if tried < 2 {
				t.Errorf("there were %d kills", tried)
			}
		})
	}
}

// TestRealmKilledChild is the process that TestRealmKilled kills.
func TestRealmKilledChild(t *testing.T) {
	args, step := killtest.Child(t)
	if args == nil {
		return
	}
	r, _, _ := realmOf(t, args[0], step)
	must(t, realmChanges[args[1]](t.Context(), r))
}

// checkRealm opens what the killed process has left.
func checkRealm(t *testing.T, folder, name string, at int) {
	t.Helper()
	ctx := t.Context()
	r, db, keys := realmOf(t, folder, nil)
	must(t, r.Prepare(ctx))
	must(t, r.Tend(ctx))
	whole(t, folder, fmt.Sprintf("killed at step %d", at), db, keys)
	text, err := r.Sign(ctx, sessionToken, time.Minute, &realm.Claims{Subject: "ada"})
	if err != nil {
		t.Errorf("killed at step %d: signing: %v", at, err)
	}
	var c realm.Claims
	if err := r.Verify(ctx, text, sessionToken, &c); err != nil {
		t.Errorf("killed at step %d: verifying: %v", at, err)
	}
	if err := realmChanges[name](ctx, r); err != nil {
		t.Errorf("killed at step %d: again: %v", at, err)
	}
	whole(t, folder, fmt.Sprintf("killed at step %d, and again", at), db, keys)
}

var sessionToken = realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}

// whole checks that the vault has the private halves that the records name, and no other.
func whole(t *testing.T, folder, when string, db *store.DB, keys *softkey.Store) {
	t.Helper()
	rec, err := db.Realm(t.Context())
	must(t, err)
	b, err := os.ReadFile(filepath.Join(folder, "names"))
	must(t, err)
	for _, name := range strings.Fields(string(b)) {
		_, err := keys.Signer(t.Context(), hsm.SignerLabel("tms:sign:"+name+":v01"))
		known := slices.ContainsFunc(rec.Keys, func(k realm.Key) bool { return k.Material == name })
		switch {
		case known && err != nil:
			t.Errorf("%s: the private half %s: %v", when, name, err)
		case !known && !errors.Is(err, hsm.ErrNotFound):
			t.Errorf("%s: nobody knows of the private half %s (%v)", when, name, err)
		}
	}
	left, err := db.Makings(t.Context())
	must(t, err)
	if len(left) > 0 {
		t.Errorf("%s: unfinished %+v", when, left)
	}
}
