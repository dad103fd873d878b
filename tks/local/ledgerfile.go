package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/gp"
	"inkan/tks"
)

// maxLedgerLine bounds one line of a ledger file.
const maxLedgerLine = 4096

// FileLedger is a Ledger in a file that only grows: one JSON line per entry,
// fsynced before the call returns. One process has it open at a time.
type FileLedger struct {
	path string
	lock *durable.Lock

	mu    sync.Mutex
	f     *os.File
	end   int64 // length of what is known to be whole
	state book
}

var _ Ledger = (*FileLedger)(nil)

// OpenLedger opens or creates a ledger file of mode 0600, and its folder of mode
// 0700 if need be. A last line that a power cut tore is cut off: its call never
// returned. Any other damage is an error.
func OpenLedger(path string) (*FileLedger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening ledger: %w", err)
	}
	lock, err := durable.LockBeside(path)
	if err != nil {
		return nil, fmt.Errorf("opening ledger: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening ledger: %w", err), lock.Release())
	}
	l := &FileLedger{path: path, lock: lock, f: f, state: book{}}
	if err := errors.Join(l.read(), durable.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(fmt.Errorf("opening ledger %s: %w", path, err), l.Close())
	}
	return l, nil
}

// Close releases the file.
func (l *FileLedger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Close(), l.lock.Release())
	l.f = nil
	return err
}

func (l *FileLedger) read() error {
	b, err := io.ReadAll(l.f)
	if err != nil {
		return err
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	n := 0
	for line := range bytes.Lines(whole) {
		n++
		e, err := parseEntry(line)
		if err == nil {
			err = l.state.apply(e)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	l.end = int64(len(whole))
	if len(whole) < len(b) {
		return l.cut()
	}
	return nil
}

func parseEntry(line []byte) (entry, error) {
	var e entry
	if len(line) > maxLedgerLine {
		return e, fmt.Errorf("more than %d bytes", maxLedgerLine)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, err
	}
	if _, err := d.Token(); err != io.EOF {
		return e, errors.New("trailing data")
	}
	return e, nil
}

// cut drops what lies beyond the last whole line.
func (l *FileLedger) cut() error {
	if err := l.f.Truncate(l.end); err != nil {
		return err
	}
	return l.f.Sync()
}

// append makes entries durable and follows them; the caller holds mu. After a
// failed write the file is brought back to its last whole line; where even that
// fails, the ledger is closed for good.
func (l *FileLedger) append(entries ...entry) error {
	if l.f == nil {
		return fmt.Errorf("ledger %s is closed: %w", l.path, tks.ErrUnavailable)
	}
	b, err := lines(entries)
	if err != nil || len(b) == 0 {
		return err
	}
	_, err = l.f.WriteAt(b, l.end)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		if cerr := l.cut(); cerr != nil {
			err = errors.Join(err, cerr, l.f.Close(), l.lock.Release())
			l.f = nil
		}
		return fmt.Errorf("writing ledger: %w: %w", err, tks.ErrUnavailable)
	}
	l.end += int64(len(b))
	for _, e := range entries {
		if err := l.state.apply(e); err != nil {
			return err
		}
	}
	return nil
}

// Grant implements Ledger.
func (l *FileLedger) Grant(ctx context.Context, g Grant) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	isNew, err := l.state.decide(g)
	if err != nil || !isNew {
		return err
	}
	return l.append(entry{Kind: kindGrant, KDD: g.KDD, Time: g.Time, Grant: &g})
}

// Complete implements Ledger.
func (l *FileLedger) Complete(_ context.Context, kdd gp.KDD, to Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.state[kdd]; !ok || e.Completed || e.To != to {
		return nil
	}
	return l.append(entry{Kind: kindComplete, KDD: kdd, Time: time.Now().UTC()})
}

// Release implements Ledger.
func (l *FileLedger) Release(_ context.Context, kdd gp.KDD, by string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.state[kdd]; !ok {
		return fmt.Errorf("releasing card with KDD %v: %w", kdd, ErrNotGranted)
	}
	return l.append(entry{Kind: kindRelease, KDD: kdd, Time: time.Now().UTC(), By: by})
}

// Lookup implements Ledger.
func (l *FileLedger) Lookup(_ context.Context, kdd gp.KDD) (Entry, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.state[kdd]
	return e, ok, nil
}
