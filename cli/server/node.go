// Package server wires a node from its data folder: keys, database, authority,
// operations, the HTTPS server and the local socket. [Create] makes a folder,
// [Open] opens it, [Node.Serve] runs it.
//
// One process at a time has a folder open. A Node is safe for concurrent use.
package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"inkan/apdu/durable"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/local"
	"inkan/tks/remote"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/coolkey"
	"inkan/tps/piv"
	"inkan/tps/piv/attest"
	"inkan/tps/realm"
	"inkan/tps/seal"
	"inkan/tps/store"
)

// Names of what is in a data folder (design.md §6), beside those of sealing.
const (
	LedgerFile     = "keys/ledger"
	AppletFolder   = "applets"
	SocketFile     = "admin.sock"
	caFile         = "ca/ca.pem"
	serverCertFile = "ca/server.pem"
)

// authorityName names the embedded authority in profiles and labels.
const authorityName = "embedded"

// Options are what Open cannot read from the folder. The zero value is usable.
type Options = sealing.Options

// ErrNotPrepared means that the folder is not a data folder yet.
var ErrNotPrepared = sealing.ErrNotPrepared

// ErrInUse means that another process has the data folder open.
var ErrInUse = sealing.ErrInUse

// Node is an open data folder.
type Node struct {
	Folder    string
	Config    config.Config
	Keys      *local.Service // nil: the node has not the role tks
	DB        *store.DB
	Authority *ca.Generations
	Engine    *tps.Engine
	Users     *auth.Local
	Audit     *audit.File
	Realm     *realm.Realm
	Logins    *realm.Logins
	Tickets   *realm.Tickets
	Attest    *attest.Verifier // verifies that a card made a key

	log     *slog.Logger
	array   array
	peers   *peers        // array, but in tests
	cards   *cardService  // nil: the node serves no card clients, or does not run
	vault   sealing.Vault // nil: the node has not the role tks
	keys    tks.Service   // Keys, or remote
	signers hsm.Signers   // the vault's, or of other nodes
	remote  *remote.Client
	// loginAuthorities are those whose certificates people log in with.
	loginAuthorities []*x509.Certificate
	// caLabels are the labels of all keys that the authority has had.
	caLabels []string
	ledger   *local.FileLedger
	shared   *remote.Ledger // ledger and those of the other nodes; nil: the node is in no array, or has no keys
	lock     *durable.Lock
	boot     string
	program  string
	sealing  *sealing.Folder // nil: the folder is plain
	serving  atomic.Bool     // it runs, and takes part in its array
	left     atomic.Bool     // detached from an array whose records it still has
	// generation is that of the configuration: a number where it is sealed, else the
	// beginning of its hash.
	generation string
}

// Open opens a data folder. The caller closes the node.
func Open(ctx context.Context, folder string, o Options) (*Node, error) {
	return openIn(ctx, folder, o, nil)
}

// openIn opens the data folder of a node of an array.
func openIn(ctx context.Context, folder string, o Options, a array) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Folder: folder, log: o.Log, boot: newBoot(), program: o.Program, array: a}
	if err := n.open(ctx, o); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// openMember opens of a folder what its part in an array needs.
func openMember(ctx context.Context, folder string, o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Folder: folder, log: o.Log, program: o.Program}
	if err := n.openFolder(ctx, o); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context, o Options) error {
	err := n.openFolder(ctx, o)
	if err != nil {
		return err
	}
	if n.DB, err = sealing.OpenDatabase(ctx, n.Config.Database, n.path); err != nil {
		return err
	}
	if n.peers != nil {
		if err := n.takeAuthority(ctx); err != nil {
			return err
		}
	}
	if err = n.openKeys(ctx, o.WaitHSM); err != nil {
		return err
	}
	if err = n.openAuthority(ctx); err != nil {
		return err
	}
	if err = n.openRealm(ctx); err != nil {
		return err
	}
	if err = n.openAttestation(); err != nil {
		return err
	}
	return n.openEngine()
}

// openFolder opens what needs neither the database nor other nodes: configuration,
// HSM or key file, audit record, the node's part of its array.
func (n *Node) openFolder(ctx context.Context, o Options) error {
	boot, lock, err := sealing.LockPrepared(n.Folder)
	if err != nil {
		return err
	}
	n.lock = lock
	if boot.Phase == seal.Sealed {
		if n.sealing, err = sealing.Open(ctx, n.Folder, boot, o); err != nil {
			return err
		}
		err = n.openSealed(ctx, o)
	} else {
		err = n.openPlain(ctx, boot, o)
	}
	if err != nil {
		return err
	}
	if n.Audit, err = audit.OpenFile(n.path(n.Config.Audit.Folder)); err != nil || n.array != nil {
		return err
	}
	return n.openPeers(ctx)
}

func (n *Node) openPlain(ctx context.Context, boot seal.Bootstrap, o Options) (err error) {
	if boot.Phase != "" {
		n.log.WarnContext(ctx, "a change of the sealing was interrupted, the plain files count: run inkan config seal or inkan config disable again")
	}
	if n.Config, err = config.Load(n.path(sealing.ConfigFile)); err != nil {
		return err
	}
	if n.generation, err = hashOf(n.path(sealing.ConfigFile)); err != nil {
		return err
	}
	if n.hasKeys() {
		n.vault, err = sealing.OpenVault(ctx, n.Config.HSM, n.path, o)
	}
	return err
}

// openSealed opens the configuration, and the keys with what else is sealed.
func (n *Node) openSealed(ctx context.Context, o Options) error {
	if err := n.sealing.Finish(ctx); err != nil {
		return err
	}
	c, opened, err := n.sealing.Config(ctx)
	if err != nil {
		return err
	}
	n.Config, n.generation = c, strconv.FormatUint(opened.Generation(), 10)
	n.log.InfoContext(ctx, "sealed configuration opened", slog.Uint64("generation", opened.Generation()), slog.String("slot", opened.Slot().String()))
	opened.Wipe()
	if err := n.sealing.CheckAnchor(c); err != nil {
		return err
	}
	if n.hasKeys() {
		n.vault, err = n.sealing.KeysOf(ctx, c.HSM, o)
	}
	return err
}

// hashOf is the beginning of a file's SHA-256.
func hashOf(path string) (string, error) {
	b, err := os.ReadFile(path)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:4]), err
}

// path resolves a name within the folder; absolute ones stay.
func (n *Node) path(name string) string { return sealing.Within(n.Folder, name) }

func (n *Node) openEngine() error {
	var err error
	n.Users = auth.NewLocal(n.DB)
	t := n.Config.TPS
	n.Engine, err = tps.New(tps.Config{
		Stores:         tps.Stores{Tokens: n.DB, Certificates: n.DB, Activities: n.DB, Journals: n.DB, Locks: n.DB},
		Profiles:       n.DB,
		Mappings:       n.DB,
		Keys:           n.keys,
		Authorities:    map[string]ca.Authority{authorityName: n.Authority},
		Authenticators: map[string]auth.Authenticator{auth.LocalID: n.Users},
		Tickets:        tickets{n.Tickets},
		Families:       n.families(),
		Audit:          n.Audit, Log: n.log,
		Node: n.Config.Node.Name, Boot: n.boot,
		DefaultProfile: t.DefaultProfile, UnmanagedProfile: t.UnmanagedProfile, Managers: t.CardManagers,
		AllowSimulator: t.AllowSimulator, Lab: n.Config.Node.Lab, Bound: n.bound,
		OperationTimeout: time.Duration(t.OperationTimeout), OrphanAfter: time.Duration(t.OrphanAfter),
	})
	return err
}

// families are the kinds of applets that this node issues.
func (n *Node) families() []tps.Family {
	applets := os.DirFS(n.path(AppletFolder))
	return []tps.Family{coolkey.Family{Applets: applets}, piv.Family{Applets: applets, Attest: n.Attest}}
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
	if n.shared != nil {
		errs = append(errs, n.shared.Close())
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	if n.vault != nil {
		errs = append(errs, n.vault.Close())
	}
	errs = append(errs, n.sealing.Close()) // closing a vault again does nothing
	if n.lock != nil {
		errs = append(errs, n.lock.Release())
	}
	return errors.Join(errs...)
}
