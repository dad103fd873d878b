package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"inkan/cli/sealing"
	"inkan/tks"
	"inkan/tks/local"
	"inkan/tks/remote"
	"inkan/tps/audit"
)

// ledgerMark is there while a node with keys that has joined an array does not know yet
// which cards the others have keyed. It keys none before.
const ledgerMark = LedgerFile + ".new"

// markLedger notes that the others' ledgers have to be copied, however this run ends.
func (n *Node) markLedger() error {
	if !n.hasKeys() {
		return nil
	}
	return sealing.WriteFile(n.path(ledgerMark), nil, 0o600)
}

// catchUp copies the ledgers of the other nodes with keys into this one's, once after
// it has joined.
func (n *Node) catchUp(ctx context.Context, own *local.FileLedger, wait time.Duration) error {
	if _, err := os.Stat(n.path(ledgerMark)); errors.Is(err, fs.ErrNotExist) || err == nil && !n.array.Joined() {
		return nil
	} else if err != nil {
		return err
	}
	if n.peers != nil {
		if err := n.peers.becomeActive(ctx); err != nil {
			return err
		}
	}
	c, err := remote.New(remote.Config{Nodes: n.array.TKSNodes, CallTimeout: time.Duration(n.Config.TKS.CallTimeout), Log: n.log})
	if err != nil {
		return err
	}
	cards := 0
	err = n.awaitTKS(ctx, wait, func() error {
		took, err := c.CopyLedger(ctx, own.Adopt)
		cards += took
		return err
	})
	if err != nil {
		return fmt.Errorf("learning from the other nodes with keys which cards were keyed before: %w", err)
	}
	if err := n.Audit.Record(ctx, audit.Event{Name: "LEDGER_COPIED", Outcome: audit.Success, Fields: map[string]string{"cards": strconv.Itoa(cards)}}); err != nil {
		return err
	}
	return n.removeWithin(ledgerMark)
}

// copyLedger is catchUp for a folder whose keys are not in use.
func (n *Node) copyLedger(ctx context.Context) error {
	if !n.hasKeys() {
		return nil
	}
	own, err := local.OpenLedger(n.path(LedgerFile))
	if err != nil {
		return err
	}
	return errors.Join(n.catchUp(ctx, own, 0), own.Close())
}

// awaitTKS does what needs other nodes with keys, again and again while they do not
// answer, for as long as wait.
func (n *Node) awaitTKS(ctx context.Context, wait time.Duration, do func() error) error {
	for end := time.Now().Add(wait); ; {
		err := do()
		if !errors.Is(err, tks.ErrUnavailable) || time.Now().After(end) {
			return err
		}
		n.log.WarnContext(ctx, "waiting for a TKS node", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(min(time.Second, time.Until(end)+time.Millisecond)):
		}
	}
}
