package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/tks/hsm"
	"inkan/tks/remote"
	"inkan/tps/audit"
	"inkan/tps/peer"
	"inkan/tps/realm"
	"inkan/tps/store"
)

// Documents that the primary gives to all members.
const (
	docAuthority = "authority.pem" // the embedded authority's certificates: ca/ca.pem
	docKeys      = "keys.json"     // which keys nodes with the role tks have: remote.Fingerprint
	docDatabase  = "database"      // names the records: see databaseID
	docConfig    = "shared.toml"   // the part of the configuration that nodes have in common
)

// databaseID names the records that nodes share: the id of the first realm key, which
// stays in the database for ever. Empty: the database is new.
func databaseID(ctx context.Context, db *store.DB) (string, error) {
	rec, err := db.Realm(ctx)
	if err != nil {
		return "", fmt.Errorf("reading which database it is: %w", err)
	}
	if len(rec.Keys) == 0 {
		return "", nil
	}
	first := slices.MinFunc(rec.Keys, func(a, b realm.Key) int { return cmp.Compare(a.ID, b.ID) })
	return string(first.ID), nil
}

// sharedConfig is the part of a configuration that nodes of an array have in common.
func sharedConfig(c config.Config) config.Config {
	return config.Config{Node: config.Node{Lab: c.Node.Lab}, TPS: c.TPS, CA: c.CA, Realm: c.Realm, TKS: config.TKS{CallsPerCard: c.TKS.CallsPerCard}}
}

// documents are what this node, as primary, gives to all members.
func (n *Node) documents(ctx context.Context) (map[string][]byte, error) {
	f, err := n.Fingerprint(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	id, err := databaseID(ctx, n.DB)
	if err != nil {
		return nil, err
	}
	common, err := sharedConfig(n.Config).Complete()
	if err != nil {
		return nil, err
	}
	shared, err := common.Encode()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{docAuthority: []byte(f.Authority), docKeys: keys, docDatabase: []byte(id), docConfig: shared}, nil
}

// publish gives the members what has changed.
func (n *Node) publish(ctx context.Context) error {
	node := n.peers.node.Load()
	if node == nil || !node.Primary() {
		return nil
	}
	docs, err := n.documents(ctx)
	if err != nil {
		return fmt.Errorf("telling the array what its nodes have in common: %w", err)
	}
	if maps.EqualFunc(docs, node.Documents(), bytes.Equal) {
		return nil
	}
	return node.SetDocuments(docs)
}

// takeAuthority takes the certificates of the authority that the primary has given.
func (n *Node) takeAuthority(ctx context.Context) error {
	node := n.peers.node.Load()
	if node == nil || node.Primary() {
		return nil
	}
	theirs := node.Documents()[docAuthority]
	ours, err := os.ReadFile(n.path(caFile))
	if theirs == nil || err == nil && bytes.Equal(ours, theirs) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the authority's certificate: %w", err)
	}
	certs, err := decodeAuthority(theirs, "what the array has for "+caFile)
	if err != nil {
		return err
	}
	if ours != nil {
		if err := newer(ours, certs); err != nil {
			return err
		}
	}
	if err := n.hasAuthorityKeys(ctx, certs); err != nil {
		return err
	}
	if err := sealing.WriteFile(n.path(caFile), theirs, 0o644); err != nil {
		return err
	}
	n.log.WarnContext(ctx, "the certificate authority has new certificates, from the primary of the array")
	return n.Audit.Record(ctx, audit.Event{Name: "CA_CERTIFICATES_TAKEN", Outcome: audit.Success})
}

// newer refuses certificates that lack one of this folder's authority.
func newer(ours []byte, theirs caCertificates) error {
	own, err := decodeAuthority(ours, caFile)
	if err != nil {
		return err
	}
	for _, c := range own.roots {
		if !slices.ContainsFunc(theirs.roots, func(t *x509.Certificate) bool { return t.Equal(c) }) {
			return fmt.Errorf("the certificate authority of this folder (%s, until %s) is not the one of the array: make new keys of it on the primary alone",
				c.Subject.CommonName, c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

// hasAuthorityKeys reports a key of the authority that this node should have.
func (n *Node) hasAuthorityKeys(ctx context.Context, certs caCertificates) error {
	if !n.hasKeys() {
		return nil
	}
	for i, c := range certs.roots {
		if i > 0 && time.Now().After(c.NotAfter) {
			continue
		}
		s, err := n.vault.Signer(ctx, caLabel(certs.number(i)))
		if err != nil {
			return fmt.Errorf("key %d of the certificate authority, which the array has, is not in this node's HSM or key file: %w", certs.number(i), err)
		}
		if pub, ok := c.PublicKey.(interface{ Equal(x any) bool }); ok && !pub.Equal(s.Public()) {
			return fmt.Errorf("key %d of the certificate authority is another one in this node's HSM or key file than in the array", certs.number(i))
		}
	}
	return nil
}

// comparedKeys are the keys of a node that is to be a member, and those that the array has.
// authority is that of the node's folder; empty: it has none yet.
func (n *Node) comparedKeys(ctx context.Context, theirs remote.Fingerprint, authority string) (remote.Fingerprint, error) {
	if authority == "" {
		authority = theirs.Authority
	}
	masters, err := n.vault.Masters(ctx)
	if err != nil {
		return remote.Fingerprint{}, fmt.Errorf("listing the keys: %w", err)
	}
	f := remote.Fingerprint{Masters: remote.PrintMasters(masters), Authority: authority}
	for _, want := range theirs.Signers {
		s, err := n.vault.Signer(ctx, want.Label)
		if errors.Is(err, hsm.ErrNotFound) {
			continue
		}
		if err != nil {
			return f, err
		}
		p, err := remote.PrintSigner(want.Label, s.Public())
		if err != nil {
			return f, err
		}
		f.Signers = append(f.Signers, p)
	}
	return f, nil
}

// followEvery is how often a node looks at what its array has in common, unless told.
const followEvery = time.Minute

// follow keeps up with the array until ctx ends: the primary publishes, the others
// take.
func (n *Node) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := n.keepUp(ctx); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "keeping up with the array", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-n.peers.changed:
		}
	}
}

func (n *Node) keepUp(ctx context.Context) error {
	if n.detached() {
		return nil
	}
	if m, epoch := n.peers.self(); m.State == peer.Active && n.cards != nil {
		n.cards.resume(epoch)
	}
	return errors.Join(n.publish(ctx), n.takeAuthority(ctx))
}
