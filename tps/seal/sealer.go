package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Anchor keeps the highest generation of each role where somebody who can only
// write files cannot turn it back: as an object in the HSM, say. Its errors are
// [*Error] where they have a code.
type Anchor interface {
	// Generation is 0 where none was set.
	Generation(ctx context.Context, i InstanceID, r Role) (uint64, error)
	SetGeneration(ctx context.Context, i InstanceID, r Role, g uint64) error
	Forget(ctx context.Context, i InstanceID, r Role) error
}

// Config of a Sealer. Dir and Instance are required.
type Config struct {
	Dir      string // absolute or relative folder of the sealed files
	Instance InstanceID
	Openers  []Opener    // tried in this order
	Slots    []Protector // of what is written; at least one to write
	Anchor   Anchor      // nil: files that were put back are not noticed
	// AnchorName goes into the header of what is written, and a file with another one
	// is refused: whoever changes seal.toml cannot choose a weaker anchor.
	AnchorName string
	Program    string // version, for the header
	Now        func() time.Time
	// Step, if not nil, is told of each durable step of a write before it is taken:
	// write, prev, rename, anchor, done. Tests end the process in it.
	Step func(r Role, step string)
}

// Sealer opens and writes the sealed files of a folder.
type Sealer struct {
	cfg Config
	mu  sync.RWMutex // writers of this process before its readers; flock is between processes
}

// New makes a Sealer. It touches nothing.
func New(cfg Config) *Sealer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Step == nil {
		cfg.Step = func(Role, string) {}
	}
	return &Sealer{cfg: cfg}
}

func (s *Sealer) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// Inspect reads what anybody can read of a sealed file, and proves nothing.
func (s *Sealer) Inspect(r Role) (*File, error) {
	f, _, err := s.load(r, r.File())
	return f, err
}

// load reads and parses a file of a role.
func (s *Sealer) load(r Role, name string) (*File, []byte, error) {
	if err := r.Check(); err != nil {
		return nil, nil, err
	}
	b, err := readPrivate(r, s.path(name))
	if err != nil {
		return nil, nil, s.missing(r, err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, nil, worst(r, []error{err})
	}
	return f, b, nil
}

// missing says whether the generation before is still there.
func (s *Sealer) missing(r Role, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Code != SealedMissing {
		return err
	}
	there := "and neither is the generation before it"
	if _, err := os.Lstat(s.path(r.Prev())); err == nil {
		there = "the generation before it is (" + r.Prev() + ")"
	}
	return &Error{Code: SealedMissing, Role: r, Cause: fmt.Errorf("%w; %s", e.Cause, there)}
}

// Open decrypts a role to memory. The caller wipes it. It repairs an anchor that a
// cut write left one behind.
func (s *Sealer) Open(ctx context.Context, r Role) (*Opened, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	release, err := holdFolder(ctx, s.cfg.Dir, false)
	if err != nil {
		return nil, err
	}
	o, err := s.open(ctx, r)
	if err == nil && o.expired(s.cfg.Now()) {
		err = refuse(Expired, r, "it was good until %s", o.file.NotAfter.Format(time.RFC3339))
		o.Wipe()
		o = nil
	}
	return o, errors.Join(err, release())
}

func (s *Sealer) open(ctx context.Context, r Role) (*Opened, error) {
	f, _, err := s.load(r, r.File())
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, f, r); err != nil {
		return nil, err
	}
	return s.decrypt(ctx, f)
}

// check compares what the file says of itself with what it has to be.
func (s *Sealer) check(ctx context.Context, f *File, r Role) error {
	if err := s.identify(f, r); err != nil {
		return err
	}
	if err := s.sameAnchor(f); err != nil {
		return err
	}
	return s.settle(ctx, f)
}

// sameAnchor refuses a file whose generations are kept elsewhere than in the anchor
// that seal.toml names.
func (s *Sealer) sameAnchor(f *File) error {
	if f.Anchor != s.cfg.AnchorName && f.Anchor != "" && s.cfg.AnchorName != "" {
		return &Error{Code: Tampered, Role: f.Role, Cause: fmt.Errorf("%s says that generations are kept in anchor %s, the file says %s", BootstrapFile, s.cfg.AnchorName, f.Anchor),
			Hint: "put seal.toml back from a backup (inkan restore) and find out who changed it"}
	}
	return nil
}

func (s *Sealer) identify(f *File, r Role) error {
	if f.Instance != s.cfg.Instance {
		return refuse(Identity, r, "it is of instance %s, this is %s", f.Instance, s.cfg.Instance)
	}
	if f.Role != r {
		return refuse(Identity, r, "it holds %s", f.Role)
	}
	return nil
}

// settle compares the generation with the anchor (config-sealing.md §8).
func (s *Sealer) settle(ctx context.Context, f *File) error {
	if s.cfg.Anchor == nil {
		return nil
	}
	a, err := s.cfg.Anchor.Generation(ctx, f.Instance, f.Role)
	if err != nil {
		return coded(HSMUnreachable, fmt.Errorf("reading the generation of %s: %w", f.Role, err))
	}
	switch {
	case f.Generation == a:
		return nil
	case f.Generation < a:
		return refuse(Rollback, f.Role, "it is generation %d of %s, generation %d was written", f.Generation, f.SealedAt.Format(time.RFC3339), a)
	case f.Generation == a+1 && s.follows(f):
		if err := s.cfg.Anchor.SetGeneration(ctx, f.Instance, f.Role, f.Generation); err != nil {
			return coded(HSMUnreachable, fmt.Errorf("recording the generation of %s: %w", f.Role, err))
		}
		return nil
	}
	return refuse(AnchorBehind, f.Role, "it is generation %d of %s, the anchor knows of generation %d", f.Generation, f.SealedAt.Format(time.RFC3339), a)
}

// follows reports whether f comes after the generation that lies beside it: the
// write was cut before it reached the anchor.
func (s *Sealer) follows(f *File) bool {
	if f.Generation == 1 {
		return true
	}
	b, err := os.ReadFile(s.path(f.Role.Prev()))
	if err != nil {
		return false
	}
	sum := sha256.Sum256(b)
	return bytes.Equal(sum[:], f.Previous)
}

func (s *Sealer) decrypt(ctx context.Context, f *File) (*Opened, error) {
	dataKey, slot, err := openSlots(ctx, f, s.cfg.Openers)
	if err != nil {
		return nil, err
	}
	defer dataKey.Wipe()
	content, err := f.decrypt(dataKey)
	if err != nil {
		return nil, refuse(Tampered, f.Role, "key slot %d opens, the content of generation %d does not", slot.Number, f.Generation)
	}
	return &Opened{content: content, file: f, slot: slot}, nil
}
