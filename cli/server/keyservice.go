package server

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"inkan/apdu/gp"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/local"
	"inkan/tks/remote"
	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/store"
)

// openKeys starts the key service over the vault, or finds the nodes that have one.
func (n *Node) openKeys(ctx context.Context, wait time.Duration) error {
	if !n.hasKeys() {
		return n.openRemoteKeys(ctx, wait)
	}
	var err error
	if n.ledger, err = local.OpenLedger(n.path(LedgerFile)); err != nil {
		return err
	}
	if err := n.catchUp(ctx, n.ledger, wait); err != nil {
		return err
	}
	level, err := hsm.ParseLevel(n.Config.TKS.MinimumProtection)
	if err != nil {
		return err
	}
	ledger, err := n.joinOthers()
	if err != nil {
		return err
	}
	n.Keys, err = local.New(local.Config{
		Vault: n.vault, Ledger: ledger, KeySets: retirements{n.DB}, Audit: n.auditKeys, Peer: peerName,
		MinimumProtection: level, Log: n.log,
		Limits: local.Limits{Card: local.Limit{Every: time.Minute / time.Duration(n.Config.TKS.CallsPerCard), Burst: n.Config.TKS.CallsPerCard}},
	})
	if err != nil {
		return err
	}
	n.keys = n.Keys
	return nil
}

// joinOthers joins ledger and key pairs with those of the other nodes that have keys.
func (n *Node) joinOthers() (local.Ledger, error) {
	c, err := remote.New(remote.Config{Nodes: n.array.TKSNodes, CallTimeout: time.Duration(n.Config.TKS.CallTimeout), Log: n.log})
	if err != nil {
		return nil, err
	}
	q := remote.Majority
	if n.Config.TKS.KeyingQuorum == config.QuorumAnswering {
		q = remote.Answering
	}
	n.signers = arraySigners{n.vault, c.Signers()}
	n.shared = c.Ledger(n.ledger, q)
	return n.shared, nil
}

// openRemoteKeys reaches a node that has keys, and takes the authority's
// certificates from it. They are kept for commands that look at them.
func (n *Node) openRemoteKeys(ctx context.Context, wait time.Duration) error {
	if !n.array.Joined() {
		return errNoKeys
	}
	if n.peers != nil {
		if err := n.peers.becomeActive(ctx); err != nil {
			return err
		}
	}
	var err error
	n.remote, err = remote.New(remote.Config{Nodes: n.array.TKSNodes, CallTimeout: time.Duration(n.Config.TKS.CallTimeout), Log: n.log})
	if err != nil {
		return err
	}
	n.keys, n.signers = n.remote, n.remote.Signers()
	f, err := n.firstContact(ctx, wait)
	if err != nil {
		return fmt.Errorf("the keys of this node are at others of its array: %w. Start one of those, or see why it does not answer", err)
	}
	if _, err := decodeAuthority([]byte(f.Authority), "what the TKS node sent"); err != nil {
		return err
	}
	if err := os.MkdirAll(n.path("ca"), 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	return sealing.WriteFile(n.path(caFile), []byte(f.Authority), 0o644)
}

// firstContact waits for a node with keys.
func (n *Node) firstContact(ctx context.Context, wait time.Duration) (f remote.Fingerprint, err error) {
	err = n.awaitTKS(ctx, wait, func() error {
		f, err = n.remote.Fingerprint(ctx)
		return err
	})
	return f, err
}

// peerName is for whom a request to the key service is.
func peerName(ctx context.Context) string {
	if c, ok := remote.CallerOf(ctx); ok {
		return c.Name
	}
	return "local"
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

// peerHandler serves this node's keys to the others of its array.
func (n *Node) peerHandler() (http.Handler, error) {
	return remote.NewHandler(remote.HandlerConfig{
		Service: n.Keys, Signers: n.vault, Ledger: n.ledger, Pages: n.ledger.Page, Keys: n.Fingerprint, Audit: n.auditPeer, Log: n.log,
		Identify: func(r *http.Request) (remote.Caller, error) {
			m, err := n.array.Identify(r)
			if err != nil {
				return remote.Caller{}, err
			}
			return remote.Caller{Name: m.Name, Grant: n.Config.Grant(m.Name, m.Roles)}, nil
		},
	})
}

// peerRoutes are the addresses of the peer port: the node's keys, if it has any, how it
// is, and where it is told of compromised realm keys.
func (n *Node) peerRoutes() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", n.membersOnly(serveHealth))
	mux.Handle("GET "+readyPath, n.membersOnly(n.serveReady))
	mux.Handle("POST "+realm.NotBeforePath, n.membersOnly(realm.Told(n.Realm).ServeHTTP))
	if n.hasKeys() {
		h, err := n.peerHandler()
		if err != nil {
			return nil, err
		}
		mux.Handle(remote.Base, h)
	}
	return mux, nil
}

// membersOnly serves nodes of the array only.
func (n *Node) membersOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := n.array.Identify(r); err != nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	})
}

// auditPeer records what another node was refused, or did with a key pair.
func (n *Node) auditPeer(ctx context.Context, e remote.Event) error {
	out := audit.Event{Time: e.Time, Name: "TKS_PEER_CALL", Outcome: audit.Success, Subject: e.Peer, Fields: map[string]string{"call": e.Call}}
	if len(e.KeySets) > 0 {
		var sets []string
		for _, s := range e.KeySets {
			sets = append(sets, string(s[:min(len(s), 40)]))
		}
		out.Fields["key_set"] = strings.Join(sets, " ")
	}
	if !e.CUID.IsZero() {
		out.CUID = e.CUID.String()
	}
	if !e.KDD.IsZero() {
		out.Fields["kdd"] = e.KDD.String()
	}
	if e.Label != "" {
		out.Fields["label"] = e.Label
	}
	if e.Err != nil {
		out.Outcome, out.Fields["info"] = audit.Failure, e.Err.Error()
	}
	return n.Audit.Record(ctx, out)
}

// Fingerprint tells which keys the node has, as far as the nodes with the role tks
// have to have the same: see remote.Differences.
func (n *Node) Fingerprint(ctx context.Context) (remote.Fingerprint, error) {
	if !n.hasKeys() {
		return n.remote.Fingerprint(ctx)
	}
	masters, err := n.vault.Masters(ctx)
	if err != nil {
		return remote.Fingerprint{}, fmt.Errorf("listing the keys: %w", err)
	}
	f := remote.Fingerprint{Masters: remote.PrintMasters(masters)}
	chain, err := os.ReadFile(n.path(caFile))
	if err != nil {
		return f, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	f.Authority = string(chain)
	certs, err := decodeAuthority(chain, caFile)
	if err != nil {
		return f, err
	}
	for i, root := range certs.roots {
		p, err := remote.PrintSigner(caLabel(certs.number(i)), root.PublicKey)
		if err != nil {
			return f, err
		}
		f.Signers = append(f.Signers, p)
	}
	return f, nil
}

// boundTimeout is how long an operation waits to know what a key set is.
const boundTimeout = 10 * time.Second

// bound reports whether a key set's cards have keys of their own: it is in the
// vault, or at another node, and diversified.
func (n *Node) bound(set tks.KeySetName) bool {
	if set == tks.Factory {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), boundTimeout)
	defer cancel()
	f, err := n.masters(ctx)
	return err == nil && f.Diversified(set)
}

// masters is the part of the fingerprint that needs no file.
func (n *Node) masters(ctx context.Context) (remote.Fingerprint, error) {
	if !n.hasKeys() {
		return n.remote.Fingerprint(ctx)
	}
	masters, err := n.vault.Masters(ctx)
	return remote.Fingerprint{Masters: remote.PrintMasters(masters)}, err
}
