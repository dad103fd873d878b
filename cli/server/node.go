// Package server wires a node from its data folder: keys, database, authority,
// operations, the HTTPS server and the local socket. [Create] makes a folder,
// [Open] opens it, [Node.Serve] runs it.
//
// One process at a time has a folder open. A Node is safe for concurrent use.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
	"inkan/tks/local"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/coolkey"
	"inkan/tps/realm"
	"inkan/tps/seal"
	"inkan/tps/store"
)

// Names of what is in a data folder (design.md §6).
const (
	ConfigFile     = "inkan.toml"
	KeyFile        = "keys/keystore"
	LedgerFile     = "keys/ledger"
	PassphraseFile = "passphrase"
	AppletFolder   = "applets"
	LockFile       = "lock"
	SocketFile     = "admin.sock"
	caFile         = "ca/ca.pem"
	serverCertFile = "ca/server.pem"
	serverKeyFile  = "ca/server.key"
)

// authorityName names the embedded authority in profiles and labels.
const authorityName = "embedded"

// vault is what a node needs of its HSM or key file.
type vault interface {
	hsm.Vault
	hsm.Signers
	hsm.Wrappers
	hsm.Counters
	io.Closer
}

// Options are what Open cannot read from the folder. The zero value is usable.
type Options struct {
	Log *slog.Logger // nil = discard
	// Passphrase of the key file, asked for when there is no file passphrase in
	// the folder; nil = that is an error.
	Passphrase func() (secret.Secret, error)
	// PIN asks for the PIN or passphrase of the sealing key; nil = that is an error.
	PIN func(what string) (secret.Secret, error)
	// Recovery asks for the recovery passphrase where one is a key slot of what is
	// written; nil = that is an error.
	Recovery func() (secret.Secret, error)
	// RecoveryCost of that passphrase; nil = the default. Tests take less.
	RecoveryCost *seal.Cost
	// WaitHSM is how long to wait for an HSM that does not answer at the start.
	WaitHSM time.Duration
	Program string // version, for sealed files
	// Step, if not nil, is told of each durable step of a change of sealed files
	// before it is taken. Tests end the process in it.
	Step func(r seal.Role, step string)
}

// Node is an open data folder.
type Node struct {
	Folder    string
	Config    config.Config
	Keys      *local.Service
	DB        *store.DB
	Authority *ca.Generations
	Engine    *tps.Engine
	Users     *auth.Local
	Audit     *audit.File
	Realm     *realm.Realm
	Logins    *realm.Logins

	log   *slog.Logger
	vault vault
	// caLabels are the labels of all keys that the authority has had.
	caLabels []string
	ledger   *local.FileLedger
	lock     *folderLock
	boot     string
	program  string
	sealing  *sealing // nil: the folder is plain
}

// ErrNotPrepared means that the folder is not a data folder yet.
var ErrNotPrepared = errors.New("the data folder is not prepared: run inkan init first")

// Open opens a data folder. The caller closes the node.
func Open(ctx context.Context, folder string, o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Folder: folder, log: o.Log, boot: newBoot(), program: o.Program}
	if err := n.open(ctx, o); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context, o Options) error {
	boot, lock, err := lockPrepared(n.Folder)
	if err != nil {
		return err
	}
	n.lock = lock
	if boot.Phase == seal.Sealed {
		if n.sealing, err = openSealing(ctx, n.Folder, boot, o); err != nil {
			return err
		}
		err = n.openSealed(ctx, o)
	} else {
		err = n.openPlain(ctx, boot, o)
	}
	if err != nil {
		return err
	}
	if n.DB, err = store.Open(ctx, n.path(n.Config.Database.File)); err != nil {
		return err
	}
	if n.Audit, err = audit.OpenFile(n.path(n.Config.Audit.Folder)); err != nil {
		return err
	}
	if err = n.openKeys(); err != nil {
		return err
	}
	if err = n.openAuthority(ctx); err != nil {
		return err
	}
	if err = n.openRealm(ctx); err != nil {
		return err
	}
	return n.openEngine()
}

// prepared reports a folder that is none yet; else what seal.toml says, if it is
// there.
func prepared(folder string) (seal.Bootstrap, error) {
	boot, err := phaseOf(folder)
	if err != nil || boot.Phase == seal.Sealed {
		return boot, err
	}
	if _, err := os.Stat(within(folder, ConfigFile)); errors.Is(err, os.ErrNotExist) {
		return boot, fmt.Errorf("%s: %w", folder, ErrNotPrepared)
	}
	return boot, nil
}

func (n *Node) openPlain(ctx context.Context, boot seal.Bootstrap, o Options) (err error) {
	if boot.Phase != "" {
		n.log.WarnContext(ctx, "a change of the sealing was interrupted, the plain files count: run inkan config seal or inkan config disable again")
	}
	if n.Config, err = config.Load(n.path(ConfigFile)); err != nil {
		return err
	}
	n.vault, err = openVault(ctx, n.Config.HSM, n.path, o)
	return err
}

// openSealed opens the configuration, and the keys with what else is sealed.
func (n *Node) openSealed(ctx context.Context, o Options) error {
	if err := n.sealing.finish(ctx); err != nil {
		return err
	}
	c, opened, err := n.sealing.openConfig(ctx)
	if err != nil {
		return err
	}
	n.Config = c
	n.log.InfoContext(ctx, "sealed configuration opened", slog.Uint64("generation", opened.Generation()), slog.String("slot", opened.Slot().String()))
	opened.Wipe()
	n.vault, err = n.sealing.keysOf(ctx, c.HSM, o)
	return err
}

// path resolves a name within the folder; absolute ones stay.
func (n *Node) path(name string) string { return within(n.Folder, name) }

func within(folder, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, filepath.FromSlash(name))
}

func openVault(ctx context.Context, c config.HSM, path func(string) string, o Options) (vault, error) {
	if c.URI != "" {
		uri, err := pkcs11.ParseURI(c.URI)
		if err != nil {
			return nil, fmt.Errorf("[hsm] uri: %w", err)
		}
		cfg := pkcs11.Config{URI: uri, OpTimeout: time.Duration(c.OpTimeout), Log: o.Log}
		if uri.PINSource == "" && o.PIN != nil {
			if cfg.PIN, err = o.PIN("PIN of the HSM token"); err != nil {
				return nil, err
			}
			defer cfg.PIN.Wipe()
		}
		return pkcs11.Open(ctx, cfg)
	}
	p, err := passphrase(path(PassphraseFile), o)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	v, err := softkey.Open(path(KeyFile), p)
	if err != nil {
		return nil, fmt.Errorf("opening the key file: %w", err)
	}
	return v, nil
}

func passphrase(file string, o Options) (secret.Secret, error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		return secret.New(trimNewline(b)), nil
	case !errors.Is(err, os.ErrNotExist):
		return secret.Secret{}, fmt.Errorf("reading the passphrase of the key file: %w", err)
	case o.Passphrase == nil:
		return secret.Secret{}, fmt.Errorf("the key file's passphrase is not in %s and cannot be asked for here", file)
	}
	return o.Passphrase()
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}

// openKeys starts the key service over the vault.
func (n *Node) openKeys() error {
	var err error
	if n.ledger, err = local.OpenLedger(n.path(LedgerFile)); err != nil {
		return err
	}
	level, err := hsm.ParseLevel(n.Config.TKS.MinimumProtection)
	if err != nil {
		return err
	}
	n.Keys, err = local.New(local.Config{
		Vault: n.vault, Ledger: n.ledger, KeySets: retirements{n.DB}, Audit: n.auditKeys,
		MinimumProtection: level, Log: n.log,
		Limits: local.Limits{Card: local.Limit{Every: time.Minute / time.Duration(n.Config.TKS.CallsPerCard), Burst: n.Config.TKS.CallsPerCard}},
	})
	return err
}

// retirements is the database as the key service sees it; who retired a version
// is in the audit record.
type retirements struct{ db *store.DB }

func (r retirements) Retired(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) (bool, error) {
	return r.db.Retired(ctx, set, v)
}

func (r retirements) Retire(ctx context.Context, set tks.KeySetName, v gp.KeyVersion, _ string) error {
	return r.db.Retire(ctx, set, v)
}

// auditKeys writes the key service's own events.
func (n *Node) auditKeys(ctx context.Context, e local.Event) error {
	out := audit.Event{Time: e.Time, Name: string(e.Operation), Outcome: audit.Success, Subject: e.Peer, Fields: map[string]string{
		"key_set": string(e.KeySet), "key_version": e.KeyVersion.String(),
	}}
	if !e.CUID.IsZero() {
		out.CUID = e.CUID.String()
	}
	if !e.KDD.IsZero() {
		out.Fields["kdd"] = e.KDD.String()
	}
	if e.NewKeySet != "" {
		out.Fields["new_key_set"], out.Fields["new_key_version"] = string(e.NewKeySet), e.NewKeyVersion.String()
	}
	if e.Err != nil {
		out.Outcome, out.Fields["info"] = audit.Failure, e.Err.Error()
	}
	return n.Audit.Record(ctx, out)
}

func (n *Node) openEngine() error {
	var err error
	n.Users = auth.NewLocal(n.DB)
	t := n.Config.TPS
	n.Engine, err = tps.New(tps.Config{
		Stores:         tps.Stores{Tokens: n.DB, Certificates: n.DB, Activities: n.DB, Journals: n.DB, Locks: n.DB},
		Profiles:       n.DB,
		Mappings:       n.DB,
		Keys:           n.Keys,
		Authorities:    map[string]ca.Authority{authorityName: n.Authority},
		Authenticators: map[string]auth.Authenticator{auth.LocalID: n.Users},
		Families:       []tps.Family{coolkey.Family{Applets: os.DirFS(n.path(AppletFolder))}},
		Audit:          n.Audit, Log: n.log,
		Node: n.Config.Node.Name, Boot: n.boot,
		DefaultProfile: t.DefaultProfile, Managers: t.CardManagers,
		AllowSimulator: t.AllowSimulator, Lab: n.Config.Node.Lab, Bound: n.bound,
		OperationTimeout: time.Duration(t.OperationTimeout), OrphanAfter: time.Duration(t.OrphanAfter),
	})
	return err
}

// bound reports whether a key set's cards have keys of their own: it is in the
// vault and diversified.
func (n *Node) bound(set tks.KeySetName) bool {
	if set == tks.Factory {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	masters, err := n.vault.Masters(ctx)
	if err != nil {
		return false
	}
	found := false
	for _, m := range masters {
		if m.Set != set {
			continue
		}
		if !m.KDF.Diversified() {
			return false
		}
		found = true
	}
	return found
}

// Close ends everything that is open, in the order opposite to Open's.
func (n *Node) Close() error {
	var errs []error
	if n.Audit != nil {
		errs = append(errs, n.Audit.Close())
	}
	if n.DB != nil {
		errs = append(errs, n.DB.Close())
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	if n.vault != nil {
		errs = append(errs, n.vault.Close())
	}
	errs = append(errs, n.sealing.Close()) // closing a vault again does nothing
	if n.lock != nil {
		errs = append(errs, n.lock.release())
	}
	return errors.Join(errs...)
}
