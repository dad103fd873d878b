package seal

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
)

// AnchorName is the file of [FileAnchor].
const AnchorName = "anchor.json"

// maxAnchor bounds anchor.json, in bytes.
const maxAnchor = 1 << 20

// FileAnchor keeps generations in anchor.json beside the sealed files, under an
// HMAC-SHA-256 whose key comes from a canary that only the sealing key opens. Who can
// put an old sealed file back can put an old anchor.json beside it: it notices
// accidents. It is safe for concurrent use; writers hold the folder's lock.
type FileAnchor struct {
	dir  string
	find Keys
	with func(context.Context) ([]WrappingKey, error)
	mu   sync.Mutex
}

// NewFileAnchor makes an anchor over a folder. find finds the keys that a file
// names, with gives those that the next one is written for.
func NewFileAnchor(dir string, find Keys, with func(context.Context) ([]WrappingKey, error)) *FileAnchor {
	return &FileAnchor{dir: dir, find: find, with: with}
}

// anchorDocument is anchor.json.
type anchorDocument struct {
	Format      string          `json:"Format"`
	Instance    InstanceID      `json:"Instance"`
	Canary      []anchorSlot    `json:"Canary"` // the same secret under each key
	Generations map[Role]uint64 `json:"Generations"`
	MAC         []byte          `json:"MAC"`
}

const anchorFormat = "inkan-anchor-1"

// anchorSlot is the canary under one key.
type anchorSlot struct {
	Label     string `json:"Label"`
	ID        []byte `json:"ID"`
	Mechanism uint32 `json:"Mechanism"`
	Nonce     []byte `json:"Nonce,omitempty"`
	Data      []byte `json:"Data"`
}

// Generation implements [Anchor].
func (a *FileAnchor) Generation(ctx context.Context, i InstanceID, r Role) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, err := a.load(ctx, i)
	return known[r], err
}

// SetGeneration implements [Anchor].
func (a *FileAnchor) SetGeneration(ctx context.Context, i InstanceID, r Role, g uint64) error {
	return a.change(ctx, i, func(known map[Role]uint64) { known[r] = g })
}

// Forget implements [Anchor].
func (a *FileAnchor) Forget(ctx context.Context, i InstanceID, r Role) error {
	return a.change(ctx, i, func(known map[Role]uint64) { delete(known, r) })
}

func (a *FileAnchor) change(ctx context.Context, i InstanceID, do func(map[Role]uint64)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, err := a.load(ctx, i)
	if err != nil {
		return err
	}
	do(known)
	if len(known) == 0 {
		return ofFile("", "removing "+AnchorName, durable.Remove(a.path()))
	}
	return a.store(ctx, i, known)
}

func (a *FileAnchor) path() string { return filepath.Join(a.dir, AnchorName) }

// load reads and checks the file. None is no generation.
func (a *FileAnchor) load(ctx context.Context, i InstanceID) (map[Role]uint64, error) {
	b, err := readPrivate("", a.path())
	if errors.Is(err, fs.ErrNotExist) {
		return map[Role]uint64{}, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := parseAnchor(b)
	if err != nil {
		return nil, anchorError(Damaged, "%v", err)
	}
	if d.Instance != i {
		return nil, anchorError(Identity, "it is of instance %s, this is %s", d.Instance, i)
	}
	canary, err := a.canary(ctx, d)
	if err != nil {
		return nil, err
	}
	defer canary.Wipe()
	want, err := d.mac(canary)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(want, d.MAC) {
		return nil, anchorError(Tampered, "its check value is wrong")
	}
	return d.Generations, nil
}

func anchorError(c Code, format string, v ...any) error {
	return &Error{Code: c, Cause: fmt.Errorf("%s: not valid: "+format, append([]any{AnchorName}, v...)...),
		Hint: "put the folder back from a backup (inkan restore); or find out who changed the file, remove it and accept the sealed files: inkan config adopt"}
}

// parseAnchor decodes anchor.json strictly.
func parseAnchor(b []byte) (anchorDocument, error) {
	var d anchorDocument
	if len(b) > maxAnchor {
		return d, fmt.Errorf("%d bytes", len(b))
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, err
	}
	switch {
	case dec.More():
		return d, errors.New("something follows the document")
	case d.Format != anchorFormat:
		return d, fmt.Errorf("format %q", d.Format)
	case len(d.Canary) == 0 || len(d.Canary) > 255 || len(d.Generations) == 0:
		return d, errors.New("it is empty")
	}
	for r := range d.Generations {
		if err := r.Check(); err != nil {
			return d, err
		}
	}
	if same, err := d.encode(); err != nil || !bytes.Equal(b, same) { // base64 has bits that nobody reads
		return d, errors.Join(errors.New("it is not as this program writes it"), err)
	}
	return d, nil
}

// encode is the file.
func (d anchorDocument) encode() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", " ")
	return append(b, '\n'), err
}

// canary opens the first slot whose key is there.
func (a *FileAnchor) canary(ctx context.Context, d anchorDocument) (secret.Secret, error) {
	var errs []error
	for _, s := range d.Canary {
		k, err := a.find.Key(ctx, s.Label, s.ID)
		if err == nil {
			var c secret.Secret
			if c, err = k.Unwrap(ctx, Wrapped{s.Mechanism, s.Nonce, s.Data}, d.binding()); err == nil {
				return c, nil
			}
			err = coded(Tampered, fmt.Errorf("%s: key %s does not open it: %w", AnchorName, s.Label, err))
		}
		errs = append(errs, err)
	}
	return secret.Secret{}, worst("", errs)
}

// binding ties the canary to its use.
func (d anchorDocument) binding() []byte {
	sum := sha256.Sum256(append([]byte("TMSSEAL-v1 anchor\x00"), d.Instance[:]...))
	return sum[:]
}

// mac is the check value over the rest of the document.
func (d anchorDocument) mac(canary secret.Secret) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, canary.Bytes(), d.Instance[:], "TMSSEAL-v1 anchor", sha256.Size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	d.MAC = nil
	b, err := json.Marshal(d) // maps by key
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil), nil
}

// store writes the file with a new canary.
func (a *FileAnchor) store(ctx context.Context, i InstanceID, known map[Role]uint64) error {
	keys, err := a.with(ctx)
	if err != nil {
		return err
	}
	canary := secret.Random(dataKeySize)
	defer canary.Wipe()
	d := anchorDocument{Format: anchorFormat, Instance: i, Generations: known}
	for _, k := range keys {
		w, err := k.Wrap(ctx, canary, d.binding())
		if err != nil {
			return fmt.Errorf("writing %s: %w", AnchorName, err)
		}
		about := k.Describe()
		d.Canary = append(d.Canary, anchorSlot{about.Label, about.ID, w.Mechanism, w.Nonce, w.Data})
	}
	if d.MAC, err = d.mac(canary); err != nil {
		return err
	}
	b, err := d.encode()
	if err != nil {
		return err
	}
	return ofFile("", "writing "+AnchorName, durable.ReplaceFile(a.path(), b, 0o600))
}

// RemoveAnchor removes anchor.json of a folder, which needs no key.
func RemoveAnchor(dir string) error {
	return ofFile("", "removing "+AnchorName, durable.Remove(filepath.Join(dir, AnchorName)))
}
