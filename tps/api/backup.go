package api

import (
	"net/http"
	"path/filepath"
)

// Backup says what a backup of the keys has to hold, and of a key file what was
// written.
type Backup struct {
	Kind    string   `json:"Kind"`              // file: the encrypted key file; hsm: the vendor's tools make it
	Keys    []string `json:"Keys"`              // labels that have to be in it
	Token   string   `json:"Token,omitempty"`   // of an HSM: its URI
	Path    string   `json:"Path,omitempty"`    // of a copy that was written
	Checked string   `json:"Checked,omitempty"` // label of the key that was restored from it and used
}

// BackupRequest is the body of POST key-backup but for its passphrase, which
// [EncodeSecret] adds as "passphrase".
type BackupRequest struct {
	Path string `json:"Path"` // absolute, on the node's machine
}

func (a *api) showBackup(c *call) (reply, error) {
	b, err := a.Backups.Backup(c.Context())
	return reply{body: b}, err
}

func (a *api) writeBackup(c *call) (reply, error) {
	var in struct {
		BackupRequest
		Passphrase Text `json:"passphrase"`
	}
	defer func() { in.Passphrase.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if !filepath.IsAbs(in.Path) {
		return reply{}, badRequest("%q is not an absolute path", in.Path)
	}
	if in.Passphrase.IsZero() {
		return reply{}, badRequest("a passphrase is needed")
	}
	if err := a.intend(c, map[string]string{"path": in.Path}); err != nil {
		return reply{}, err
	}
	b, err := a.Backups.WriteBackup(c.Context(), in.Path, in.Passphrase.Secret)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: b}, nil
}

// FolderBackup says what was written of a data folder.
type FolderBackup struct {
	Path      string   `json:"Path"`
	Files     int      `json:"Files"`
	Bytes     int64    `json:"Bytes"`  // of the files, before encryption
	SHA256    string   `json:"SHA256"` // of what was written
	Recipient string   `json:"Recipient,omitempty"`
	Left      []string `json:"Left,omitempty"` // named in the configuration and not in the folder: not in the backup; a PostgreSQL database too
}

// FolderBackupRequest is the body of POST backup but for its passphrase, which
// [EncodeSecret] adds as "passphrase".
type FolderBackupRequest struct {
	Path      string `json:"Path"`                // absolute, on the node's machine
	Recipient string `json:"Recipient,omitempty"` // age recipient; without it and a passphrase: the recovery key of the sealed folder
}

func (a *api) backUpFolder(c *call) (reply, error) {
	var in struct {
		FolderBackupRequest
		Passphrase Text `json:"passphrase"`
	}
	defer func() { in.Passphrase.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if !filepath.IsAbs(in.Path) {
		return reply{}, badRequest("%q is not an absolute path", in.Path)
	}
	if in.Recipient != "" && !in.Passphrase.IsZero() {
		return reply{}, badRequest("a recipient or a passphrase, not both")
	}
	if err := a.intend(c, map[string]string{"path": in.Path}); err != nil {
		return reply{}, err
	}
	b, err := a.Backups.BackUpFolder(c.Context(), in.FolderBackupRequest, in.Passphrase.Secret)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: b}, nil
}
