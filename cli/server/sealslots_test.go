//go:build unix

package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm/hsmtest"
	"inkan/tps/seal"
	"inkan/tps/store/storetest/pgtest"
)

// rollBack puts yesterday's sealed configuration back.
func rollBack(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "inkan.toml.sealed")
	old, err := os.ReadFile(path)
	must(t, err)
	for range 2 {
		_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
		must(t, err)
	}
	must(t, open(t, folder))
	must(t, os.WriteFile(path, old, 0o600))
}

// TestAnchors: an old file is refused by every anchor, accepted by a person, and the
// anchor is gone with the sealing.
func TestAnchors(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		for _, p.anchor = range []string{seal.AnchorHSM, seal.AnchorDB, seal.AnchorFile} {
			if p.uri != "" && p.anchor == seal.AnchorDB {
				continue // the database is the same
			}
			t.Run("anchor="+p.anchor, func(t *testing.T) {
				folder := sealedFolder(t, p)
				rollBack(t, folder)
				if err := open(t, folder); !errors.Is(err, seal.Rollback) {
					t.Fatalf("an old file: %v", err)
				}
				_, err := sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Role: sealing.RoleConfig, Accept: 1}, server.Options{})
				must(t, err)
				must(t, open(t, folder))
				must(t, sealing.Disable(t.Context(), folder, server.Options{}))
				if left, err := filepath.Glob(filepath.Join(folder, "anchor*")); err != nil || len(left) > 0 {
					t.Errorf("left %v, %v", left, err)
				}
				_, err = sealing.Seal(t.Context(), folder, p.plan(folder), server.Options{})
				must(t, err)
				must(t, open(t, folder))
				must(t, sealing.Destroy(t.Context(), folder, true, server.Options{}))
			})
		}
	})
}

// TestWeakAnchor: without an anchor only a lab is sealed and served.
func TestWeakAnchor(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{anchor: seal.AnchorNone})
	must(t, open(t, folder))
	d, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	must(t, err)
	site := strings.Replace(string(d.Text), "lab = true", "lab = false", 1)
	_, err = sealing.WriteConfig(t.Context(), folder, d.Generation, []byte(site), server.Options{})
	must(t, err)
	if err := open(t, folder); err == nil || !strings.Contains(err.Error(), "the anchor none is for a lab") {
		t.Errorf("a site without an anchor: %v", err)
	}
	must(t, sealing.Disable(t.Context(), folder, server.Options{}))
	if _, err := sealing.Seal(t.Context(), folder, place{anchor: seal.AnchorNone}.plan(folder), server.Options{}); err == nil || !strings.Contains(err.Error(), "the anchor none is for a lab") {
		t.Errorf("sealed a site without an anchor: %v", err)
	}
}

// TestChosenAnchor: who may write seal.toml cannot choose a weaker anchor.
func TestChosenAnchor(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	for _, weaker := range []string{seal.AnchorFile, seal.AnchorNone} {
		boot, err := seal.LoadBootstrap(folder)
		must(t, err)
		boot.Anchor = weaker
		must(t, boot.Write(folder))
		if err := open(t, folder); !errors.Is(err, seal.Tampered) {
			t.Errorf("anchor %s chosen: %v", weaker, err)
		}
	}
}

// TestCredentialSeals: a server without HSM seals under a secret that the system hands
// over, the key file's passphrase too.
func TestCredentialSeals(t *testing.T) {
	withCredential(t)
	folder := prepared(t, t.TempDir())
	plan := sealing.SealPlan{Credential: credentialSlot.Credential, Recipient: recoveryRecipient}
	report, err := sealing.Seal(t.Context(), folder, plan, server.Options{})
	must(t, err)
	if report.Key != credentialSlot.Credential || report.Generations["passphrase"] != 1 || report.Mechanism != "AES-256-GCM" {
		t.Errorf("%+v", report)
	}
	must(t, open(t, folder))
	st, err := sealing.SealStatus(t.Context(), folder, true, server.Options{})
	must(t, err)
	if st.Anchor != seal.AnchorDB || st.HSM != "ok" || st.Place != "cred:inkan-seal" {
		t.Errorf("%+v", st)
	}
	if _, err := sealing.RotateKey(t.Context(), folder, server.Options{}); err == nil || !strings.Contains(err.Error(), "make another one") {
		t.Errorf("rotated: %v", err)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	must(t, os.WriteFile(filepath.Join(dir, "next"), secret.Random(48).Bytes(), 0o400))
	_, err = sealing.AddSlot(t.Context(), folder, seal.Place{Credential: "next"}, server.Options{})
	must(t, err)
	_, err = sealing.RemoveSlot(t.Context(), folder, credentialSlot.String(), server.Options{})
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, credentialSlot.Credential)))
	must(t, open(t, folder))
	must(t, os.Remove(filepath.Join(dir, "next")))
	if err := open(t, folder); !errors.Is(err, seal.DependencyMissing) {
		t.Errorf("without its credential: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if err := open(t, folder); !errors.Is(err, seal.DependencyMissing) || !strings.Contains(err.Error(), "LoadCredential") {
		t.Errorf("without any credential: %v", err)
	}
}

// TestSecondHSM: what is sealed for two tokens opens by the second where the first is
// lost; changes need both, until the lost one is taken away.
func TestSecondHSM(t *testing.T) {
	first := hsmtest.SoftHSM(t)
	lost, err := os.ReadDir(first.Tokens)
	must(t, err)
	second := first.Another(t)
	_, token, pinSource, err := sealing.TokenOf(first.URI)
	must(t, err)
	folder := sealedFolder(t, place{uri: token.URI, pinSource: pinSource})
	want := text(t, folder)
	_, dr, drPIN, err := sealing.TokenOf(second.URI)
	must(t, err)
	place2 := seal.Place{URI: dr.URI, PINSource: drPIN}
	got, err := sealing.AddSlot(t.Context(), folder, place2, server.Options{})
	must(t, err)
	if got["inkan.toml"] != 3 {
		t.Errorf("%v", got)
	}
	if _, err := sealing.AddSlot(t.Context(), folder, place2, server.Options{}); err == nil {
		t.Error("the same slot twice")
	}
	st, err := sealing.SealStatus(t.Context(), folder, true, server.Options{})
	must(t, err)
	if st.HSM != "ok" || !slices.Equal(st.Slots, []string{dr.URI}) || len(st.Files[0].Slots) != 3 {
		t.Errorf("%+v", st)
	}
	if _, err := sealing.RotateKey(t.Context(), folder, server.Options{}); err != nil {
		t.Errorf("rotated: %v", err)
	}

	gone := filepath.Join(first.Tokens, lost[0].Name())
	must(t, os.Rename(gone, first.Tokens+".lost"))
	if text(t, folder) != want {
		t.Error("another configuration by the second token")
	}
	if _, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{}); !errors.Is(err, seal.HSMUnreachable) || !strings.Contains(err.Error(), "--remove-slot") {
		t.Errorf("a change without the first token: %v", err)
	}
	if _, err := sealing.RemoveSlot(t.Context(), folder, first.Label, server.Options{}); err != nil {
		t.Fatalf("taking the lost token away: %v", err)
	}
	must(t, open(t, folder))
	_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
	must(t, err)
	for _, name := range []string{second.Label, "nobody"} {
		if _, err := sealing.RemoveSlot(t.Context(), folder, name, server.Options{}); err == nil {
			t.Errorf("%s was taken away", name)
		}
	}
	withCredential(t)
	_, err = sealing.AddSlot(t.Context(), folder, credentialSlot, server.Options{})
	must(t, err)
	if _, err := sealing.RemoveSlot(t.Context(), folder, second.Label, server.Options{}); err == nil || !strings.Contains(err.Error(), "last key slot in an HSM") {
		t.Errorf("the last HSM: %v", err)
	}
	rollBack(t, folder)
	if err := open(t, folder); !errors.Is(err, seal.Rollback) {
		t.Errorf("an old file: %v", err)
	}
}

// TestRetireKeys: a replaced key is destroyed when no backup needs it any more.
func TestRetireKeys(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		folder := sealedFolder(t, p)
		path, _ := backUp(t, folder)
		v, err := server.VerifyBackup(t.Context(), path, secret.New([]byte(recoveryIdentity)), secret.Secret{})
		must(t, err)
		r, err := sealing.RotateKey(t.Context(), folder, server.Options{})
		must(t, err)
		if !slices.Equal(v.Keys, []string{r.Old}) || v.Node != "lab" || v.Files < 4 || v.Bytes == 0 {
			t.Errorf("the backup: %+v; rotated %+v", v, r)
		}
		got, err := sealing.RetireKeys(t.Context(), folder, server.Options{})
		must(t, err)
		if len(got.Destroyed) > 0 || !slices.Equal(got.Kept[r.Old], []string{path}) {
			t.Errorf("while a backup needs it: %+v", got)
		}
		must(t, sealing.ForgetBackup(t.Context(), folder, path))
		if err := sealing.ForgetBackup(t.Context(), folder, path); err == nil {
			t.Error("forgotten twice")
		}
		got, err = sealing.RetireKeys(t.Context(), folder, server.Options{})
		must(t, err)
		if !slices.Equal(got.Destroyed, []string{r.Old}) || len(got.Kept) > 0 {
			t.Errorf("without a backup: %+v", got)
		}
		must(t, open(t, folder))
		got, err = sealing.RetireKeys(t.Context(), folder, server.Options{})
		must(t, err)
		if len(got.Destroyed) > 0 {
			t.Errorf("again: %+v", got)
		}
		_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
		must(t, err)
	})
}

// TestRetireRefuses: no key goes that a file is written for alone.
func TestRetireRefuses(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	old, err := os.ReadFile(filepath.Join(folder, "inkan.toml.sealed"))
	must(t, err)
	_, err = sealing.RotateKey(t.Context(), folder, server.Options{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "inkan.toml.sealed.prev"), old, 0o600))
	if got, err := sealing.RetireKeys(t.Context(), folder, server.Options{}); !errors.Is(err, seal.KeyMissing) || len(got.Destroyed) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestVerifyBackup: a backup with one byte changed is found out, and so is the wrong
// key.
func TestVerifyBackup(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	path, _ := backUp(t, folder)
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)/2] ^= 1
	bad := filepath.Join(t.TempDir(), "bad.age")
	must(t, os.WriteFile(bad, b, 0o600))
	if _, err := server.VerifyBackup(t.Context(), bad, secret.New([]byte(recoveryIdentity)), secret.Secret{}); err == nil {
		t.Error("a damaged backup is whole")
	}
	if _, err := server.VerifyBackup(t.Context(), path, secret.Secret{}, secret.New([]byte("another passphrase"))); err == nil {
		t.Error("opened by a passphrase")
	}
}

// TestAnchorInPostgres: the records' server keeps the generations too.
func TestAnchorInPostgres(t *testing.T) {
	records := pgtest.Shared(t)
	role, superuser := records.NewRole(t, "pass word"), records.Database(t)
	records.ExecIn(t, superuser, "GRANT ALL ON SCHEMA public TO "+role)
	folder := postgresFolder(t, strings.Replace(superuser, pgtest.Superuser, role, 1), "pass word")
	_, err := sealing.Seal(t.Context(), folder, place{anchor: seal.AnchorDB}.plan(folder), server.Options{})
	must(t, err)
	rollBack(t, folder)
	if err := open(t, folder); !errors.Is(err, seal.Rollback) {
		t.Errorf("an old file: %v", err)
	}
}

// TestChangeAnchor: generations are kept elsewhere from now on, also where the database
// that kept them is lost; and no change of the configuration names one that is not there.
func TestChangeAnchor(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	must(t, os.WriteFile(filepath.Join(folder, "ca", "server.key"), []byte("a key\n"), 0o600))
	empty, err := os.ReadFile(filepath.Join(folder, "inkan.db"))
	must(t, err)
	_, err = sealing.Seal(t.Context(), folder, place{anchor: seal.AnchorDB}.plan(folder), server.Options{})
	must(t, err)
	d, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	must(t, err)
	elsewhere, err := config.Set(d.Text, config.Assignment{Key: "database.file", Value: "nowhere/inkan.db"})
	must(t, err)
	if _, err := sealing.WriteConfig(t.Context(), folder, d.Generation, elsewhere, server.Options{}); err == nil || !strings.Contains(err.Error(), "keeps the generations") {
		t.Errorf("a database that is not there: %v", err)
	}
	_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "moved.db"), empty, 0o600)) // the generations move with the configuration
	moved, err := config.Set(d.Text, config.Assignment{Key: "database.file", Value: "moved.db"})
	must(t, err)
	_, err = sealing.WriteConfig(t.Context(), folder, 2, moved, server.Options{})
	must(t, err)
	_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
	must(t, err)
	_, err = sealing.WriteConfig(t.Context(), folder, 4, d.Text, server.Options{})
	must(t, err)
	db := filepath.Join(folder, "inkan.db")
	must(t, os.Rename(db, db+".lost"))
	must(t, os.Mkdir(db, 0o700))
	if err := open(t, folder); !errors.Is(err, seal.DependencyMissing) || !strings.Contains(err.Error(), "--anchor file") {
		t.Errorf("without the database: %v", err)
	}
	_, err = sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Anchor: seal.AnchorFile}, server.Options{})
	must(t, err)
	if text(t, folder) != string(d.Text) {
		t.Error("another configuration")
	}
	must(t, os.Remove(db))
	must(t, os.Rename(db+".lost", db))
	for _, kind := range []string{seal.AnchorDB, seal.AnchorHSM, seal.AnchorFile} {
		_, err = sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Anchor: kind}, server.Options{})
		must(t, err)
		rollBack(t, folder)
		if err := open(t, folder); !errors.Is(err, seal.Rollback) {
			t.Errorf("an old file, anchor %s: %v", kind, err)
		}
	}
}
