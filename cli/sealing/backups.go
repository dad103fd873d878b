package sealing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"inkan/tps/seal"
)

// BackupsFile lists the backups of a folder, for who wants to destroy a key that one
// of them needs.
const BackupsFile = "backups.json"

// Backup is one backup of a sealed folder.
type Backup struct {
	Path    string    `json:"Path"`
	SHA256  string    `json:"SHA256"`
	Created time.Time `json:"Created"`
	Keys    []string  `json:"Keys"` // labels of the sealing keys that its files were written for
}

// RecordBackup remembers a backup. A nil Folder has none to remember: it is not
// sealed.
func (s *Folder) RecordBackup(ctx context.Context, path, sha256 string) error {
	if s == nil {
		return nil
	}
	keys, err := s.keysNeeded()
	if err != nil {
		return err
	}
	return changeBackups(ctx, s.folder, func(all []Backup) ([]Backup, error) {
		all = slices.DeleteFunc(all, func(b Backup) bool { return b.Path == path })
		return append(all, Backup{Path: path, SHA256: sha256, Created: time.Now().UTC().Truncate(time.Second), Keys: keys}), nil
	})
}

// keysNeeded are the labels of the keys that the folder's files are written for.
func (s *Folder) keysNeeded() ([]string, error) {
	var out []string
	for _, r := range s.boot.Roles {
		f, err := s.reader().Inspect(r)
		if unmade(r, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, KeysOfFile(f)...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// KeysOfFile are the labels of the keys in HSM or key file that a sealed file is
// written for.
func KeysOfFile(f *seal.File) (out []string) {
	for _, slot := range f.Slots {
		if slot.Kind == seal.KindPKCS11 || slot.Kind == seal.KindKeyFile {
			out = append(out, slot.Label)
		}
	}
	return out
}

// Backups lists the backups that a folder remembers, the oldest first.
func Backups(folder string) ([]Backup, error) {
	b, err := os.ReadFile(Within(folder, BackupsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Backup
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%s is not valid: %w", Within(folder, BackupsFile), err)
	}
	return out, nil
}

// ForgetBackup takes a backup off the list: it was deleted, or nobody will open it by
// the HSM any more.
func ForgetBackup(ctx context.Context, folder, path string) error {
	return changeBackups(ctx, folder, func(all []Backup) ([]Backup, error) {
		rest := slices.DeleteFunc(slices.Clone(all), func(b Backup) bool { return b.Path == path })
		if len(rest) == len(all) {
			return nil, fmt.Errorf("%s is no backup that this folder remembers: inkan backup list", path)
		}
		return rest, nil
	})
}

// changeBackups replaces the list. A node that runs and a command may both do it.
func changeBackups(ctx context.Context, folder string, do func([]Backup) ([]Backup, error)) (err error) {
	release, err := seal.HoldFolder(ctx, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	all, err := Backups(folder)
	if err != nil {
		return err
	}
	if all, err = do(all); err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return WriteFile(Within(folder, BackupsFile), append(b, '\n'), 0o600)
}
