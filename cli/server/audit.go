package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// AuditKeysFile is the name of the public keys in an exported audit record.
const AuditKeysFile = "audit-keys.json"

var _ api.AuditRecord = (*Node)(nil)

// Prove implements api.AuditRecord.
func (n *Node) Prove(ctx context.Context) (audit.Proof, error) {
	keys, err := n.Realm.AuditKeys(ctx)
	if err != nil {
		return audit.Proof{}, err
	}
	kept, err := n.DB.AuditHead(ctx, n.Config.Node.Name)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return audit.Proof{}, err
	}
	return audit.Prove(n.path(n.Config.Audit.Folder), realm.CheckHead(keys), kept)
}

// Export implements api.AuditRecord. What was written so far is signed before.
func (n *Node) Export(ctx context.Context, path string) (audit.Proof, error) {
	if err := n.checkpoints().Make(ctx); err != nil {
		return audit.Proof{}, err
	}
	keys, err := n.Realm.AuditKeys(ctx)
	if err != nil {
		return audit.Proof{}, err
	}
	b, err := realm.EncodeAuditKeys(keys)
	if err != nil {
		return audit.Proof{}, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return audit.Proof{}, &api.Error{Status: http.StatusConflict, Message: "the folder must be a new one: " + err.Error(), Err: err}
	}
	if err := os.WriteFile(filepath.Join(path, AuditKeysFile), b, 0o600); err != nil {
		return audit.Proof{}, err
	}
	if err := copyFile(filepath.Join(path, audit.FileName), filepath.Join(n.path(n.Config.Audit.Folder), audit.FileName)); err != nil {
		return audit.Proof{}, err
	}
	return n.Prove(ctx)
}

// ProveExport checks an exported audit record, without its node.
func ProveExport(folder string) (audit.Proof, error) {
	f, err := os.Open(filepath.Join(folder, AuditKeysFile))
	if err != nil {
		return audit.Proof{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAuditKeys))
	if err != nil {
		return audit.Proof{}, err
	}
	keys, err := realm.ParseAuditKeys(b)
	if err != nil {
		return audit.Proof{}, err
	}
	return audit.Prove(folder, realm.CheckHead(keys), audit.Head{})
}

// maxAuditKeys is the longest file of audit keys, in bytes: those of a thousand years.
const maxAuditKeys = 16 << 20

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copying the audit record: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("copying the audit record: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("copying the audit record: %w", err)
	}
	return nil
}

// checkpoints sign the audit record with the realm's key for it.
func (n *Node) checkpoints() *audit.Checkpoints {
	return &audit.Checkpoints{Log: n.Audit, Sign: n.Realm.SignHead, Heads: n.DB, Node: n.Config.Node.Name, Logger: n.log}
}
