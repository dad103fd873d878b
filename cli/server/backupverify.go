package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/tps/seal"
)

// Verified says what VerifyBackup has found.
type Verified struct {
	Node    string    `json:"Node"`
	Created time.Time `json:"Created"`
	Files   int       `json:"Files"`
	Bytes   int64     `json:"Bytes"`
	From    string    `json:"From"` // the folder that was backed up
	// Keys are the labels of the sealing keys that its sealed files were written for.
	Keys []string `json:"Keys,omitempty"`
}

// VerifyBackup reads a backup to its end and checks it against its manifest. It writes
// nothing.
func VerifyBackup(_ context.Context, from string, identity, passphrase secret.Secret) (Verified, error) {
	who, err := identities(identity, passphrase)
	if err != nil {
		return Verified{}, err
	}
	f, err := os.Open(from)
	if err != nil {
		return Verified{}, fmt.Errorf("reading the backup: %w", err)
	}
	defer f.Close()
	r, err := age.Decrypt(f, who...)
	if err != nil {
		return Verified{}, fmt.Errorf("opening the backup: it is none, or this is not its key or passphrase: %w", err)
	}
	var out Verified
	m, err := readArchive(r, out.look)
	if err != nil {
		return Verified{}, err
	}
	out.Node, out.Created, out.Files, out.From = m.Node, m.Created, len(m.Files), m.Folder
	slices.Sort(out.Keys)
	out.Keys = slices.Compact(out.Keys)
	return out, nil
}

// look reads one file of a backup.
func (v *Verified) look(name string, content io.Reader) error {
	if !strings.HasSuffix(name, seal.Suffix) {
		n, err := io.Copy(io.Discard, content)
		v.Bytes += n
		return err
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(content, 2*seal.MaxPlaintext))
	v.Bytes += n
	if err != nil {
		return err
	}
	file, err := seal.Parse(b.Bytes())
	if err != nil {
		return errors.Join(errors.New("the backup has a damaged sealed file"), err)
	}
	v.Keys = append(v.Keys, sealing.KeysOfFile(file)...)
	return nil
}
