package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"inkan/apdu/secret"
	"inkan/tks/hsm/softkey"
	"inkan/tps/api"
)

// minPassphrase is the shortest passphrase of a copy of the key file, in bytes:
// whoever finds the copy tries at leisure.
const minPassphrase = 12

// Kinds of key stores in api.Backup.
const (
	kindFile = "file"
	kindHSM  = "hsm"
)

// Backup implements api.Backups: the labels of the keys that a backup has to hold.
func (n *Node) Backup(ctx context.Context) (api.Backup, error) {
	if !n.hasKeys() {
		return api.Backup{}, n.elsewhere()
	}
	masters, err := n.vault.Masters(ctx)
	if err != nil {
		return api.Backup{}, fmt.Errorf("listing the keys: %w", err)
	}
	b := api.Backup{Kind: kindFile}
	if n.Config.HSM.URI != "" {
		b.Kind, b.Token = kindHSM, n.Config.HSM.URI
	}
	for _, m := range masters {
		b.Keys = append(b.Keys, m.Label())
	}
	b.Keys = append(b.Keys, n.caLabels...)
	return b, nil
}

// WriteBackup implements api.Backups: it writes an encrypted copy of the key file
// to path under a passphrase of its own, which the caller keeps, and restores one
// key of it. A copy that does not pass is removed. An HSM is refused: only its
// vendor's tools copy it.
func (n *Node) WriteBackup(ctx context.Context, path string, passphrase secret.Secret) (api.Backup, error) {
	b, err := n.Backup(ctx)
	if err != nil {
		return b, err
	}
	keys, ok := n.vault.(*softkey.Store)
	if !ok {
		return b, &api.Error{Status: http.StatusConflict, Message: "the keys are in an HSM: its vendor's tools make the backup"}
	}
	if err := checkCopy(n.Folder, path, passphrase); err != nil {
		return b, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	label, err := writeCopy(keys, path, passphrase)
	if err != nil {
		return b, &api.Error{Status: http.StatusConflict, Message: err.Error()}
	}
	b.Path, b.Checked = path, label
	return b, nil
}

// checkCopy refuses a passphrase or a place that makes a copy worthless.
func checkCopy(folder, path string, passphrase secret.Secret) error {
	if passphrase.Len() < minPassphrase {
		return fmt.Errorf("the passphrase of a copy needs %d bytes at least", minPassphrase)
	}
	return outside(folder, path)
}

// writeCopy writes the copy and restores one key of it, whose label it returns. A
// copy that does not pass is removed.
func writeCopy(keys *softkey.Store, path string, passphrase secret.Secret) (string, error) {
	if err := keys.Backup(path, passphrase); err != nil {
		return "", err
	}
	checked, err := keys.CheckBackup(path, passphrase)
	if err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return checked.Label, nil
}

// outside refuses a place in the data folder: what burns with the original is no
// backup.
func outside(folder, path string) error {
	dir, err := realPath(filepath.Dir(path))
	if err != nil {
		return err
	}
	if folder, err = realPath(folder); err != nil {
		return err
	}
	rel, err := filepath.Rel(folder, dir)
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("%s is in the data folder: choose a place on another disk or medium", path)
	}
	return nil
}

// realPath is absolute and without symbolic links.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}
