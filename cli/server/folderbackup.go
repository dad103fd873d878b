package server

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/tps/api"
	"inkan/tps/seal"
)

// backupTemp begins the name of the database's copy while a backup is made.
const backupTemp = ".backup-"

// BackUpFolder implements api.Backups: the folder as a tar archive with a manifest,
// encrypted by age, while the node runs. The database is copied as of one moment,
// before the logs that only grow. One in PostgreSQL is not: several nodes share it,
// and it is backed up by its own means; the answer names it among what is left out.
func (n *Node) BackUpFolder(ctx context.Context, q api.FolderBackupRequest, passphrase secret.Secret) (api.FolderBackup, error) {
	out := api.FolderBackup{Path: q.Path}
	to, name, err := n.recipients(q.Recipient, passphrase)
	if err != nil {
		return out, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	if err := outside(n.Folder, q.Path); err != nil {
		return out, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	out.Recipient = seal.ShortRecipient(name)
	if err := n.backUp(ctx, q.Path, to, &out); err != nil {
		return out, &api.Error{Status: http.StatusConflict, Message: err.Error()}
	}
	return out, n.sealing.RecordBackup(ctx, q.Path, out.SHA256)
}

// recipients are who opens the backup; without a choice the recovery key.
func (n *Node) recipients(recipient string, passphrase secret.Secret) (age.Recipient, string, error) {
	if !passphrase.IsZero() {
		if passphrase.Len() < minPassphrase {
			return nil, "", fmt.Errorf("the passphrase of a backup needs %d bytes at least", minPassphrase)
		}
		r, err := age.NewScryptRecipient(string(passphrase.Bytes())) // the library wants a string
		return r, "", err
	}
	if recipient == "" && n.sealing != nil {
		recipient = n.sealing.Recipient()
	}
	if recipient == "" || recipient == seal.RecoveryPassphrase {
		return nil, "", errors.New("a backup needs an age recipient or a passphrase: the folder has no recovery key")
	}
	rs, err := age.ParseRecipients(strings.NewReader(recipient))
	if err != nil || len(rs) != 1 {
		return nil, "", errors.New("the recipient is no age recipient (age1…)")
	}
	return rs[0], recipient, nil
}

func (n *Node) backUp(ctx context.Context, path string, to age.Recipient, out *api.FolderBackup) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	}
	db := ""
	if n.Config.Database.URL == "" {
		if db, err = n.copyDatabase(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(db)) }()
	}
	f, err := durable.Begin(path, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = n.archive(f, sum, db, to, out)
	if err == nil {
		out.SHA256 = hex.EncodeToString(sum.Sum(nil))
		err = f.Commit()
	}
	return errors.Join(err, f.Discard())
}

// copyDatabase copies the database into the folder, and removes copies of cut
// attempts.
func (n *Node) copyDatabase(ctx context.Context) (string, error) {
	old, err := filepath.Glob(filepath.Join(n.Folder, backupTemp+"*"))
	if err != nil {
		return "", err
	}
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return "", err
		}
	}
	path := filepath.Join(n.Folder, backupTemp+newBoot())
	if err := n.DB.CopyTo(ctx, path); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o600)
}

func (n *Node) archive(w io.Writer, sum hash.Hash, db string, to age.Recipient, out *api.FolderBackup) error {
	sealed, err := age.Encrypt(io.MultiWriter(w, sum), to)
	if err != nil {
		return err
	}
	folder, err := filepath.Abs(n.Folder)
	if err != nil {
		return err
	}
	a := &archiver{w: tar.NewWriter(sealed), m: manifest{Format: manifestFormat, Program: n.program, Node: n.Config.Node.Name,
		Created: time.Now().UTC().Truncate(time.Second), Folder: folder}}
	name := filepath.ToSlash(n.Config.Database.File)
	if db == "" {
		out.Left = append(out.Left, "the records, which are in PostgreSQL ("+n.Config.Database.URL+"): pg_dump or a base backup of the server")
	} else if err := a.addDatabase(name, db); err != nil {
		return err
	}
	files, err := filesOf(n.Folder, name, name+"-wal", name+"-shm")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := a.add(f, sealing.Within(n.Folder, f)); err != nil {
			return err
		}
	}
	for _, elsewhere := range []string{n.Config.Audit.Folder, n.Config.Listen.Certificate, n.Config.Listen.Key} {
		if filepath.IsAbs(elsewhere) {
			out.Left = append(out.Left, elsewhere)
		}
	}
	for _, f := range a.m.Files {
		out.Bytes += f.Size
	}
	out.Files = len(a.m.Files)
	return errors.Join(a.end(), sealed.Close())
}

// addDatabase adds the copy under the database's name.
func (a *archiver) addDatabase(name, db string) error {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("the database %s is not in the folder: a backup of both is the database's own", name)
	}
	return a.add(name, db)
}

// Restored says what Restore has put in place.
type Restored struct {
	Node    string    `json:"Node"`
	Created time.Time `json:"Created"`
	Files   int       `json:"Files"`
	From    string    `json:"From"` // the folder that was backed up
	// Problem is why the restored folder does not open as it is; empty: it does.
	Problem string `json:"Problem,omitempty"`
}

// Restore puts a backup in place as a new data folder. identity is an age identity,
// or passphrase the backup's. Nothing is at the place before everything has been
// checked against the manifest. Then the folder is looked at: an HSM that knows of
// newer generations, or is not there, is a Problem and no error.
func Restore(ctx context.Context, from, folder string, identity, passphrase secret.Secret, o Options) (Restored, error) {
	out, err := restore(from, folder, identity, passphrase, o.Complete())
	if err != nil {
		return out, err
	}
	if n, err := Open(ctx, folder, o); err != nil {
		out.Problem = err.Error()
	} else if err := n.Close(); err != nil {
		out.Problem = err.Error()
	}
	return out, nil
}

// RestoreAnew is Restore for a machine that does not have the key of the sealed
// configuration: that is set aside, into the folder aside, and Create prepares the rest
// anew.
func RestoreAnew(ctx context.Context, from, folder string, identity, passphrase secret.Secret, o Options) (out Restored, aside string, err error) {
	out, err = restore(from, folder, identity, passphrase, o.Complete())
	if err == nil {
		aside, err = sealing.SetAside(ctx, folder, o)
	}
	return out, aside, err
}

func restore(from, folder string, identity, passphrase secret.Secret, o Options) (Restored, error) {
	if err := vacant(folder); err != nil {
		return Restored{}, err
	}
	who, err := identities(identity, passphrase)
	if err != nil {
		return Restored{}, err
	}
	f, err := os.Open(from)
	if err != nil {
		return Restored{}, fmt.Errorf("reading the backup: %w", err)
	}
	defer f.Close()
	r, err := age.Decrypt(f, who...)
	if err != nil {
		return Restored{}, fmt.Errorf("opening the backup: it is none, or this is not its key or passphrase: %w", err)
	}
	m, err := place(r, folder, o)
	if err != nil {
		return Restored{}, err
	}
	return Restored{Node: m.Node, Created: m.Created, Files: len(m.Files), From: m.Folder}, nil
}

// vacant refuses a place where something is.
func vacant(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a backup is restored to a place of its own", folder)
	}
	return nil
}

func identities(identity, passphrase secret.Secret) ([]age.Identity, error) {
	if !passphrase.IsZero() {
		i, err := age.NewScryptIdentity(string(passphrase.Bytes()))
		return []age.Identity{i}, err
	}
	is, err := age.ParseIdentities(strings.NewReader(string(identity.Bytes())))
	if err != nil {
		return nil, errors.New("that is no age identity (AGE-SECRET-KEY-…)")
	}
	return is, nil
}

// place extracts beside the place, and moves the whole there at the end.
func place(r io.Reader, folder string, o Options) (manifest, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return manifest{}, err
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return manifest{}, err
	}
	stage, err := os.MkdirTemp(filepath.Dir(folder), "."+filepath.Base(folder)+".restore-") // mode 0700
	if err != nil {
		return manifest{}, err
	}
	m, err := extract(r, stage, func(string) { o.Step("", "extract") })
	if err == nil {
		err = errors.Join(moved(stage, m.Folder, folder), os.MkdirAll(sealing.Within(stage, AppletFolder), 0o700), syncFolders(stage))
	}
	if err != nil {
		return m, errors.Join(err, os.RemoveAll(stage))
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) { // empty
		return m, errors.Join(err, os.RemoveAll(stage))
	}
	o.Step("", "place")
	if err := os.Rename(stage, folder); err != nil {
		return m, errors.Join(err, os.RemoveAll(stage))
	}
	return m, durable.SyncDir(filepath.Dir(folder))
}

// moved corrects what seal.toml says of a folder that is elsewhere now.
func moved(stage, from, to string) error {
	b, err := sealing.PhaseOf(stage)
	if err != nil || b.Phase == "" {
		return err
	}
	rest, ok := strings.CutPrefix(b.PINSource, "file:"+from+string(filepath.Separator))
	if !ok || from == to {
		return nil
	}
	b.PINSource = "file:" + filepath.Join(to, rest)
	return b.Write(stage)
}

// syncFolders makes the names in a folder and those below it durable.
func syncFolders(folder string) error {
	return filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}
