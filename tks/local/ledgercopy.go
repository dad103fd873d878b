package local

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"inkan/tks"
)

// pageSize is the most that [FileLedger.Page] returns, in bytes.
const pageSize = 256 << 10

// Page is a part of the ledger's file for another node: whole lines from an offset on,
// which is 0 or the end of an earlier page, at most 256 KiB. Its end is from and the
// length; where nothing is left it is empty.
func (l *FileLedger) Page(from int64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil, fmt.Errorf("ledger %s is closed: %w", l.path, tks.ErrUnavailable)
	}
	if from < 0 || from > l.end {
		return nil, fmt.Errorf("reading ledger: there is no offset %d", from)
	}
	b := make([]byte, min(pageSize, l.end-from))
	if _, err := l.f.ReadAt(b, from); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading ledger: %w: %w", err, tks.ErrUnavailable)
	}
	return b[:bytes.LastIndexByte(b, '\n')+1], nil
}

// Copy is what the pages of another node's ledger say. The zero value is empty.
type Copy struct{ state book }

// Add follows a page.
func (c *Copy) Add(page []byte) error {
	if c.state == nil {
		c.state = book{}
	}
	for line := range bytes.Lines(page) {
		if line[len(line)-1] != '\n' {
			return errors.New("copying a ledger: a page ends within a line")
		}
		e, err := parseEntry(line)
		if err == nil {
			err = c.state.apply(e)
		}
		if err != nil {
			return fmt.Errorf("copying a ledger: %w", err)
		}
	}
	return nil
}

// Adopt writes down what a copy knows of cards that this ledger knows nothing of, or
// not that they are through, and returns the number of cards. All of it is durable
// then, or none.
func (l *FileLedger) Adopt(c *Copy) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []entry
	cards := 0
	for kdd, e := range c.state {
		was, known := l.state[kdd]
		if known && (was.Completed || !e.Completed || was.To != e.To) {
			continue
		}
		cards++
		if !known {
			out = append(out, entry{Kind: kindGrant, KDD: kdd, Time: e.Time, Grant: &e.Grant})
		}
		if e.Completed {
			out = append(out, entry{Kind: kindComplete, KDD: kdd, Time: e.Time})
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(a.Time.Compare(b.Time), bytes.Compare(a.KDD[:], b.KDD[:]))
	})
	return cards, l.append(out...)
}

// lines are entries as the file has them.
func lines(entries []entry) ([]byte, error) {
	var out []byte
	for _, e := range entries {
		b, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("writing ledger: %w", err)
		}
		if len(b) >= maxLedgerLine {
			return nil, fmt.Errorf("writing ledger: entry of %d bytes", len(b))
		}
		out = append(append(out, b...), '\n')
	}
	return out, nil
}
