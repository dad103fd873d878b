package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"inkan/cli/sealing"
	"inkan/tps/audit"
)

// leftFile says which array a node was detached from.
const leftFile = PeerFolder + "/left.json"

// departure is its content.
type departure struct {
	Array    string    `json:"array"` // name
	At       time.Time `json:"at"`
	Database string    `json:"database"` // hash of the address of the array's records
}

// errDetached: what the node has are the array's records, or it has no keys.
var errDetached = errors.New("this node was detached from its array, and the records that its configuration names are the array's: it serves nobody. " +
	"inkan array join makes it a member again; with [database] url or file of its own, and the role tks, it goes on alone")

// detached reports a node that has nothing of its own to serve.
func (n *Node) detached() bool { return n.left.Load() }

// mayUseRecords refuses to serve with what belongs to an array that the node has left.
func (n *Node) mayUseRecords() error {
	if n.detached() {
		return errDetached
	}
	return nil
}

// databaseHash names the records of the configuration.
func (n *Node) databaseHash() string {
	sum := sha256.Sum256([]byte(n.Config.Database.URL))
	return hex.EncodeToString(sum[:])
}

// readLeft finds out whether the node was detached.
func (n *Node) readLeft() error {
	b, err := os.ReadFile(n.path(leftFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var d departure
	if err := json.Unmarshal(b, &d); err != nil {
		return fmt.Errorf("%s is damaged: restore it, or join the array again", n.path(leftFile))
	}
	n.left.Store(d.Database == n.databaseHash() || !n.hasKeys())
	return nil
}

// drain ends running card operations, on the word of the primary.
func (n *Node) drain(ctx context.Context) error {
	if n.cards == nil {
		return nil
	}
	_, epoch := n.peers.self()
	n.log.InfoContext(ctx, "this node is being detached from its array: it takes no new operation")
	return n.cards.drain(ctx, epoch)
}

// leaveArray takes from the node what it had of an array that it was detached from:
// the way to the records, and the authority where the node had no key of it. Card
// operations that run end first. It may run again after a cut.
func (n *Node) leaveArray(ctx context.Context) error {
	if n.cards != nil {
		end, cancel := context.WithTimeout(ctx, shutdownTimeout)
		if err := n.cards.handler().Shutdown(end); err != nil {
			n.log.WarnContext(ctx, "running operations were not ended in time", slog.Any("err", err))
		}
		cancel()
	}
	s, _ := n.peers.node.Load().State()
	b, err := json.Marshal(departure{Array: s.Name, At: time.Now().UTC().Truncate(time.Second), Database: n.databaseHash()})
	if err != nil {
		return err
	}
	if err := sealing.WriteFile(n.path(leftFile), b, 0o600); err != nil {
		return err
	}
	if err := n.readLeft(); err != nil {
		return err
	}
	if f := n.Config.Database.PasswordFile; f != "" {
		if err := n.removeWithin(f); err != nil {
			return err
		}
	}
	if !n.hasKeys() {
		if err := n.removeWithin(caFile); err != nil {
			return err
		}
	}
	return n.Audit.Record(ctx, audit.Event{Name: "ARRAY_LEFT", Outcome: audit.Success, Fields: map[string]string{"array": s.Name}})
}

// removeWithin removes a file of the folder, none that lies elsewhere.
func (n *Node) removeWithin(name string) error {
	rel, err := filepath.Rel(n.Folder, n.path(name))
	if err != nil || !filepath.IsLocal(rel) {
		return nil
	}
	if err := os.Remove(n.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
