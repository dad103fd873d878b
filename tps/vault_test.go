package tps_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/memtest"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tks/kdf"
	"inkan/tks/local"
)

// TestMain removes the key file that sites share.
func TestMain(m *testing.M) {
	softkeytest.Cheap() // also of the processes that tests kill, which open the key files of others
	status := memtest.Run(m)
	os.RemoveAll(sharedFolder) // nothing where there is none
	os.Exit(status)
}

var sharedFolder string // set by sharedVault

// sharedVault is the key file of every site that no other process opens: the passphrase of
// a key file is made slow on purpose, and its key sets are the same everywhere.
var sharedVault = sync.OnceValues(func() (_ *softkey.Store, err error) {
	if sharedFolder, err = os.MkdirTemp("", "inkan-tps"); err != nil {
		return nil, err
	}
	return createVault(filepath.Join(sharedFolder, "keystore"))
})

// openVault opens the key file of a folder, and makes it where there is none.
func openVault(path string) (*softkey.Store, error) {
	v, err := softkey.Open(path, passphrase())
	if errors.Is(err, fs.ErrNotExist) {
		return createVault(path)
	}
	return v, err
}

func passphrase() secret.Secret { return secret.New([]byte("passphrase of the test")) }

// createVault makes a key file with the key sets of a site.
func createVault(path string) (*softkey.Store, error) {
	v, err := softkey.Create(path, passphrase(), softkeytest.Cheap())
	if err != nil {
		return nil, err
	}
	ledger, err := local.OpenLedger(filepath.Join(filepath.Dir(path), "ledger"))
	if err != nil {
		return nil, err
	}
	defer ledger.Close()
	svc, err := local.New(local.Config{Vault: v, Ledger: ledger})
	if err != nil {
		return nil, err
	}
	for name, ks := range map[tks.KeySetName]struct {
		v uint8
		t hsm.KeyType
	}{"site": {2, hsm.AES128}, "wide": {3, hsm.AES256}, "des": {2, hsm.DES3}, "other": {2, hsm.AES128}, "narrow": {4, hsm.AES128}, "later": {5, hsm.DES3}} {
		if _, err := svc.CreateKeySet(context.Background(), name, apduVersion(ks.v), ks.t); err != nil {
			return nil, err
		}
	}
	for version, t := range map[gp.KeyVersion]hsm.KeyType{1: hsm.AES128, 2: hsm.AES256} {
		if _, err := svc.Create(context.Background(), local.NewKeySet{Name: "piv", Version: version, Type: t, KDF: kdf.PIV}); err != nil {
			return nil, err
		}
	}
	return v, nil
}
