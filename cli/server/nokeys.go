package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps/api"
)

// elsewhere refuses what only a node with keys can do, and names those.
func (n *Node) elsewhere() error {
	var names []string
	for _, node := range n.array.TKSNodes() {
		names = append(names, node.Name)
	}
	where := "there is none now"
	if len(names) > 0 {
		where = "run it there: " + strings.Join(names, ", ")
	}
	return &api.Error{Status: http.StatusConflict, Message: "this node has not the role tks, the keys are at other nodes of its array; " + where}
}

// remoteKeySets are the key sets of other nodes: to look at, not to change.
type remoteKeySets struct{ n *Node }

var _ api.KeySets = remoteKeySets{}

// CreateKeySet implements api.KeySets.
func (k remoteKeySets) CreateKeySet(context.Context, tks.KeySetName, gp.KeyVersion, string, string) (api.KeySet, error) {
	return api.KeySet{}, k.n.elsewhere()
}

// CheckKeySet implements api.KeySets.
func (k remoteKeySets) CheckKeySet(context.Context, tks.KeySetName, gp.KeyVersion, string, string) error {
	return k.n.elsewhere()
}

// ImportKeySet implements api.KeySets.
func (k remoteKeySets) ImportKeySet(context.Context, tks.KeySetName, gp.KeyVersion, string, string, []secret.Secret, []gp.KCV) ([]api.KeySet, error) {
	return nil, k.n.elsewhere()
}

// KeySets implements api.KeySets.
func (k remoteKeySets) KeySets(ctx context.Context) ([]api.KeySet, error) {
	f, err := k.n.remote.Fingerprint(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.KeySet, len(f.Masters))
	for i, m := range f.Masters {
		retired, err := k.n.DB.Retired(ctx, m.Set, m.Version)
		if err != nil {
			return nil, fmt.Errorf("listing key sets: %w", err)
		}
		out[i] = api.KeySet{
			ID: string(m.Set) + "/" + m.Version.String(), Name: string(m.Set), Version: m.Version.String(), Slot: m.Slot, Type: m.Type,
			KDF: m.KDF, KCV: m.KCV, Level: m.Level, Why: m.Why, Origin: m.Origin, Retired: retired,
		}
	}
	return out, nil
}

// TestKeySet implements api.KeySets.
func (k remoteKeySets) TestKeySet(context.Context, tks.KeySetName, gp.KeyVersion) error {
	return k.n.elsewhere()
}

// Retire implements api.KeySets.
func (k remoteKeySets) Retire(context.Context, tks.KeySetName, gp.KeyVersion, string) error {
	return k.n.elsewhere()
}

// remoteKeyings is the ledger of nodes with keys. Whoever has a node without keys is
// not to let himself key cards once more.
type remoteKeyings struct{ n *Node }

var _ api.Keyings = remoteKeyings{}

// Keying implements api.Keyings.
func (k remoteKeyings) Keying(context.Context, gp.KDD) (api.Keying, bool, error) {
	return api.Keying{}, false, k.n.elsewhere()
}

// Release implements api.Keyings.
func (k remoteKeyings) Release(context.Context, gp.KDD, string) error { return k.n.elsewhere() }

// keySets and keyings are those of this node, or of others.
func (n *Node) keySetAPI() (api.KeySets, api.Keyings) {
	if n.hasKeys() {
		return keySets{n.Keys}, keyings{n.Keys}
	}
	return remoteKeySets{n}, remoteKeyings{n}
}
