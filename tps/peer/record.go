package peer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"inkan/apdu/durable"
)

// phase is what this node itself is.
type phase string

const (
	outside    phase = ""           // no array yet
	inside     phase = "member"     // member of an array, maybe its primary
	leaving    phase = "leaving"    // detached; about to become an array of its own
	superseded phase = "superseded" // was primary; another one was promoted without it
)

// record is all that the node keeps in its folder, apart from its private key. It is
// replaced as a whole: a cut leaves the old one or the new one.
type record struct {
	Phase       phase             `json:"phase"`
	Node        string            `json:"node"`
	State       State             `json:"state"`
	Documents   map[string][]byte `json:"documents"`
	Certificate []byte            `json:"certificate"` // the node's own
	Invites     []invite          `json:"invites"`
	// Labels of CA keys that this node has made and not destroyed yet.
	Labels []string `json:"labels"`
	// Offered is the CA made for a promotion that the primary has not announced yet.
	Offered *Statement `json:"offered,omitempty"`
	// Waiting is a state, with a promotion by force that a person has to confirm.
	Waiting *envelope `json:"waiting,omitempty"`
	// Superseded is the proof by which a former primary stepped back.
	Superseded *Statement `json:"superseded,omitempty"`
}

// clone copies a record all the way down.
func (r record) clone() (record, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return record{}, err
	}
	var c record
	err = json.Unmarshal(b, &c)
	return c, err
}

// Files below the peer folder.
const (
	recordFile = "array.json"
	crlFile    = "array.crl"
)

// ErrDamaged: the node's record of its array cannot be read as it was written.
var ErrDamaged = errors.New("damaged: restore it from a backup, or remove it and join the array again")

// stored is the file: a record with its own hash, so that any change is seen.
type stored struct {
	Record json.RawMessage `json:"record"`
	SHA256 string          `json:"sha256"`
}

func encodeRecord(r record) ([]byte, error) {
	b, err := canonical(r)
	if err != nil {
		return nil, err
	}
	return canonical(stored{b, hashHex(b)})
}

func decodeRecord(b []byte) (record, error) {
	var f stored
	if err := strict(b, &f); err != nil {
		return record{}, err
	}
	if hashHex(f.Record) != f.SHA256 {
		return record{}, errors.New("its hash is wrong")
	}
	var r record
	if err := strict(f.Record, &r); err != nil {
		return record{}, err
	}
	if again, err := encodeRecord(r); err != nil || !bytes.Equal(again, b) {
		return record{}, errors.New("it is not in its canonical form")
	}
	if r.Phase == outside {
		return r, nil
	}
	if err := (envelope{r.State, r.Documents}).check(); err != nil {
		return record{}, err
	}
	return r, nil
}

// loadRecord reads the folder; an empty one is a node outside of any array.
func loadRecord(dir string) (record, error) {
	path := filepath.Join(dir, recordFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("reading the array's record: %w", err)
	}
	r, err := decodeRecord(b)
	if err != nil {
		return record{}, fmt.Errorf("%s is %w (%w)", path, ErrDamaged, err)
	}
	return r, nil
}

// Kept says whether a folder has the record of a node, whatever it says.
func Kept(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, recordFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// save makes r the node's record. Callers hold n.mu.
func (n *Node) save(r record) error {
	b, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("encoding the array's record: %w", err)
	}
	if err := n.at("record: before"); err != nil {
		return err
	}
	if err := durable.ReplaceFile(filepath.Join(n.cfg.Dir, recordFile), b, 0o600); err != nil {
		return fmt.Errorf("keeping the array's record: %w", err)
	}
	return n.at("record: after")
}

// now is the time in whole seconds, as states have it.
func (n *Node) now() time.Time { return n.cfg.Now().UTC().Truncate(time.Second) }
