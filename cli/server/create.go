package server

import (
	"context"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/fixtures"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/kdf"
	"inkan/tks/local"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/store"
	"inkan/tps/token"
)

// Names and versions of the master keys that a new folder gets: that of card managers,
// and that of the management keys and PUKs of PIV applets.
const (
	SiteKeySet     tks.KeySetName = "site"
	SiteKeyVersion gp.KeyVersion  = 2
	PIVKeySet      tks.KeySetName = "piv"
	PIVKeyVersion  gp.KeyVersion  = 1
)

// Answers are what Create needs to know.
type Answers struct {
	Config config.Config
	// Passphrase of the key file; zero: a random one is made and kept in the folder.
	// Not used with an HSM.
	Passphrase secret.Secret
	// KeepPassphrase writes a typed passphrase to the folder, so that nobody has to
	// type it at each start.
	KeepPassphrase bool
	KeyType        hsm.KeyType   // of the site's master key; zero: aes-128
	CAKey          hsm.Algorithm // default ec-p256
	CAName         string        // common name; default Inkan CA NODE
	Admin          auth.User     // first administrator
	AdminPassword  secret.Secret
	// BackupTo is where an encrypted copy of the key file goes, under
	// BackupPassphrase; one key of it is checked by restoring. Required with a key
	// file outside a lab.
	BackupTo         string
	BackupPassphrase secret.Secret
	// KeyParams of the key file; nil = the defaults. Tests and demonstrations take less.
	KeyParams *softkey.Params
	// PasswordCost of the administrator's; zero = the default. Tests take less.
	PasswordCost auth.Cost
}

// ErrPrepared means that the folder holds a configuration already.
var ErrPrepared = errors.New("the data folder is prepared already")

// Create prepares a data folder: configuration, key file or HSM token with the
// site's master key, embedded authority, database with the shipped profiles and a
// first administrator. A node without the role tks gets no keys and no authority: it
// is to join an array that has them. The configuration is written last: a folder without it
// is not prepared, and Create may be run on it again after a cut.
func Create(ctx context.Context, folder string, a Answers) error {
	path := func(name string) string { return sealing.Within(folder, name) }
	if _, err := sealing.Prepared(folder); !errors.Is(err, ErrNotPrepared) {
		return errors.Join(fmt.Errorf("%s: %w", folder, ErrPrepared), err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := mayBackUp(folder, a); err != nil {
		return err
	}
	if err := sealing.AskDatabase(ctx, a.Config.Database, path); err != nil {
		return err
	}
	lock, err := sealing.Lock(path(sealing.LockFile))
	if err != nil {
		return err
	}
	defer lock.Release()
	for _, dir := range []string{"keys", "ca", AppletFolder, a.Config.Audit.Folder} {
		if err := os.MkdirAll(path(dir), 0o700); err != nil {
			return fmt.Errorf("making the data folder: %w", err)
		}
	}
	if a.Config.Node.Has(config.RoleTKS) {
		if err := createKeys(ctx, path, a); err != nil {
			return err
		}
	}
	db, err := sealing.OpenDatabase(ctx, a.Config.Database, path)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, step := range []func() error{
		func() error { return joinsAuthority(ctx, db, path) },
		func() error { return createRecords(ctx, db, a) },
		func() error { return createApplets(path, a.Config.Node.Lab) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	doc, err := a.Config.Encode()
	if err != nil {
		return err
	}
	return sealing.WriteFile(path(sealing.ConfigFile), doc, 0o600)
}

// createKeys makes what a node with the role tks has: key file or HSM token with the
// site's master key, the authority, and the copy of the key file.
func createKeys(ctx context.Context, path func(string) string, a Answers) error {
	v, err := createVault(ctx, a, path)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, step := range []func() error{
		func() error { return createMaster(ctx, v, path, a) },
		func() error { return createAuthority(ctx, v, path, a) },
		func() error { return backUp(v, a) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// createVault makes the key file, or opens the HSM. A key file of an earlier,
// cut attempt is opened.
func createVault(ctx context.Context, a Answers, path func(string) string) (sealing.Vault, error) {
	if a.Config.HSM.URI != "" {
		return sealing.OpenVault(ctx, a.Config.HSM, path, Options{})
	}
	if _, err := os.Stat(path(sealing.KeyFile)); err == nil {
		return sealing.OpenVault(ctx, a.Config.HSM, path, Options{Passphrase: func() (secret.Secret, error) { return a.Passphrase.Clone(), nil }})
	}
	p := a.Passphrase
	keep := a.KeepPassphrase
	if p.IsZero() {
		raw := secret.Random(20)
		text := make([]byte, 2*raw.Len())
		hex.Encode(text, raw.Bytes())
		raw.Wipe()
		p, keep = secret.New(text), true
	}
	if keep {
		if err := sealing.WriteFile(path(sealing.PassphraseFile), p.Bytes(), 0o400); err != nil {
			return nil, err
		}
	}
	v, err := softkey.Create(path(sealing.KeyFile), p, a.KeyParams)
	if err != nil {
		return nil, fmt.Errorf("making the key file: %w", err)
	}
	return v, nil
}

// errNoBackup means that Create was not told where the copy of the key file goes.
var errNoBackup = errors.New("a key file needs a copy elsewhere before anything depends on it: a lost master key locks every card for ever")

// mayBackUp refuses, before anything is made, what would leave the key file
// without a copy.
func mayBackUp(folder string, a Answers) error {
	if a.Config.HSM.URI != "" || a.Config.Node.Lab || !a.Config.Node.Has(config.RoleTKS) {
		return nil
	}
	if a.BackupTo == "" {
		return errNoBackup
	}
	return checkCopy(folder, a.BackupTo, a.BackupPassphrase)
}

// backUp writes the copy of the key file and reads one key of it back. A copy of an
// earlier, cut attempt only has to pass.
func backUp(v sealing.Vault, a Answers) error {
	keys, ok := v.(*softkey.Store)
	if !ok || a.Config.Node.Lab {
		return nil
	}
	if _, err := os.Stat(a.BackupTo); err == nil {
		_, err := keys.CheckBackup(a.BackupTo, a.BackupPassphrase)
		return err
	}
	_, err := writeCopy(keys, a.BackupTo, a.BackupPassphrase)
	return err
}

func createMaster(ctx context.Context, v sealing.Vault, path func(string) string, a Answers) error {
	ledger, err := local.OpenLedger(path(LedgerFile))
	if err != nil {
		return err
	}
	defer ledger.Close()
	level, err := hsm.ParseLevel(a.Config.TKS.MinimumProtection)
	if err != nil {
		return err
	}
	s, err := local.New(local.Config{Vault: v, Ledger: ledger, MinimumProtection: level})
	if err != nil {
		return err
	}
	if a.KeyType == 0 {
		a.KeyType = hsm.AES128
	}
	_, err = s.CreateKeySet(ctx, SiteKeySet, SiteKeyVersion, a.KeyType)
	if err != nil && !errors.Is(err, hsm.ErrExists) {
		return fmt.Errorf("making the site's master key: %w", err)
	}
	secrets := local.NewKeySet{Name: PIVKeySet, Version: PIVKeyVersion, Type: hsm.AES256, KDF: kdf.PIV}
	if _, err = s.Create(ctx, secrets); err != nil && !errors.Is(err, hsm.ErrExists) {
		return fmt.Errorf("making the master key of PIV secrets: %w", err)
	}
	return nil
}

func subjectBase(c config.CA) pkix.Name {
	var n pkix.Name
	if c.Organization != "" {
		n.Organization = []string{c.Organization}
	}
	if c.Country != "" {
		n.Country = []string{c.Country}
	}
	return n
}

// createRecords stores the shipped profiles and the first administrator.
func createRecords(ctx context.Context, db *store.DB, a Answers) error {
	for _, r := range profile.Shipped(a.Config.Node.Lab) {
		if r.Name != "cleanToken" {
			r.Document = strings.Replace(r.Document, `issuer_url = ""`, fmt.Sprintf("issuer_url = %q", a.Config.Listen.URL+"/tps/phoneHome"), 1)
		}
		if _, err := db.PutProfile(ctx, r); err != nil && !errors.Is(err, token.ErrConflict) {
			return fmt.Errorf("storing profile %s: %w", r.Name, err)
		}
	}
	if a.Admin.ID == "" {
		return nil
	}
	_, err := auth.CreateAt(ctx, db, a.Admin, a.AdminPassword, a.PasswordCost)
	if err != nil && !errors.Is(err, token.ErrConflict) {
		return fmt.Errorf("adding %s: %w", a.Admin.ID, err)
	}
	return nil
}

// createApplets writes the synthetic load file: for trials with software cards.
func createApplets(path func(string) string, lab bool) error {
	if !lab {
		return nil
	}
	for _, version := range []string{fixtures.DefaultApplet, fixtures.PIVApplet} {
		b, err := fixtures.Applet(version)
		if err != nil {
			return err
		}
		if err := sealing.WriteFile(path(AppletFolder+"/"+version+".ijc"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
