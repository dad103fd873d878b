package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
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

// Save writes the next generation of a role. expect is the generation that the
// caller has read, 0 for a role that is not there; another one is a Conflict. The
// plaintext is neither retained nor wiped.
func (s *Sealer) Save(ctx context.Context, r Role, expect uint64, plaintext []byte) (uint64, error) {
	var g uint64
	err := s.exclusively(ctx, func() (err error) {
		g, err = s.save(ctx, change{role: r, expect: expect, plaintext: plaintext, slots: s.cfg.Slots})
		return err
	})
	return g, err
}

// ResealOptions of one write; the zero value is the usual slots, for as long as before.
type ResealOptions struct {
	Slots    []Protector // instead of those of Config; nil = those
	NotAfter *time.Time  // refuse to open the file after; the zero time: never; nil: as it is
}

// Reseal writes the same content again: new data key, next generation. It opens a
// file that has expired too.
func (s *Sealer) Reseal(ctx context.Context, r Role, o ResealOptions) (uint64, error) {
	if len(o.Slots) == 0 {
		o.Slots = s.cfg.Slots
	}
	var g uint64
	err := s.exclusively(ctx, func() error {
		was, err := s.open(ctx, r)
		if err != nil {
			return err
		}
		defer was.Wipe()
		g, err = s.save(ctx, change{role: r, expect: was.Generation(), plaintext: was.Bytes(), slots: o.Slots, notAfter: o.NotAfter})
		return err
	})
	return g, err
}

// change is one write.
type change struct {
	role      Role
	expect    uint64
	plaintext []byte
	slots     []Protector
	notAfter  *time.Time // nil: as it is
}

// exclusively runs f with nobody else reading or writing.
func (s *Sealer) exclusively(ctx context.Context, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	release, err := holdFolder(ctx, s.cfg.Dir, true)
	if err != nil {
		return err
	}
	return errors.Join(f(), release())
}

func (s *Sealer) save(ctx context.Context, c change) (uint64, error) {
	r := c.role
	if len(c.plaintext) > MaxPlaintext {
		return 0, fmt.Errorf("sealing %s: %d bytes, at most %d", r, len(c.plaintext), MaxPlaintext)
	}
	if len(c.slots) == 0 || len(c.slots) > 255 {
		return 0, fmt.Errorf("sealing %s: %d key slots, want 1 to 255", r, len(c.slots))
	}
	current, old, err := s.load(r, r.File())
	if CodeOf(err) == SealedMissing && errors.Is(err, fs.ErrNotExist) {
		current, err = nil, s.vacant(ctx, r)
	}
	if err != nil {
		return 0, err
	}
	var found uint64
	if current != nil {
		if err := s.check(ctx, current, r); err != nil {
			return 0, err
		}
		found = current.Generation
	}
	if found != c.expect {
		return 0, refuse(Conflict, r, "it is at generation %d, not %d", found, c.expect)
	}
	h := Header{Instance: s.cfg.Instance, Role: r, Generation: found + 1, Program: s.cfg.Program, Anchor: s.cfg.AnchorName, ContentType: contentType(r)}
	if current != nil {
		h.Previous, h.NotAfter = current.Hash[:], current.NotAfter
	}
	if c.notAfter != nil {
		h.NotAfter = c.notAfter.UTC().Truncate(time.Second)
	}
	return h.Generation, s.replace(ctx, &h, old, c.plaintext, c.slots)
}

// vacant reports whether a role may begin: its file was not taken away.
func (s *Sealer) vacant(ctx context.Context, r Role) error {
	if s.cfg.Anchor == nil {
		return nil
	}
	a, err := s.cfg.Anchor.Generation(ctx, s.cfg.Instance, r)
	if err != nil {
		return coded(HSMUnreachable, fmt.Errorf("reading the generation of %s: %w", r, err))
	}
	if a > 0 {
		return refuse(SealedMissing, r, "it is not there, and generation %d was", a)
	}
	return nil
}

func contentType(r Role) string {
	switch filepath.Ext(string(r)) {
	case ".toml":
		return "application/toml"
	case ".key":
		return "application/x-pem-file"
	}
	return "application/octet-stream"
}

// replace seals, proves and puts a generation in place.
func (s *Sealer) replace(ctx context.Context, h *Header, old, plaintext []byte, slots []Protector) error {
	path := s.path(h.Role.File())
	if err := Room(s.cfg.Dir, len(plaintext)); err != nil {
		return worst(h.Role, []error{err})
	}
	b, err := s.seal(ctx, h, plaintext, slots)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.RemoveTemps(path), durable.RemoveTemps(s.path(h.Role.Prev()))); err != nil {
		return ofFile(h.Role, "removing an unfinished write", err)
	}
	if err := s.write(h.Role, old, b); err != nil {
		return err
	}
	if s.cfg.Anchor != nil {
		s.cfg.Step(h.Role, "anchor")
		if err := s.cfg.Anchor.SetGeneration(ctx, h.Instance, h.Role, h.Generation); err != nil {
			return coded(HSMUnreachable, fmt.Errorf("recording the generation of %s, which is written: %w", h.Role, err))
		}
	}
	s.cfg.Step(h.Role, "done")
	return nil
}

// write puts the file b of a role in place, and old in that of the generation before.
func (s *Sealer) write(r Role, old, b []byte) error {
	s.cfg.Step(r, "write")
	file, err := durable.Begin(s.path(r.File()), 0o600)
	if err != nil {
		return ofFile(r, "writing the sealed file", err)
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Flush()
	}
	if err != nil {
		return errors.Join(ofFile(r, "writing the sealed file", err), file.Discard())
	}
	if old != nil {
		s.cfg.Step(r, "prev")
		if err := durable.ReplaceFile(s.path(r.Prev()), old, 0o600); err != nil {
			return errors.Join(ofFile(r, "keeping the generation before", err), file.Discard())
		}
	}
	s.cfg.Step(r, "rename")
	if err := file.Commit(); err != nil {
		return errors.Join(ofFile(r, "putting the sealed file in place", err), file.Discard())
	}
	return nil
}

// Room refuses a folder whose disk has no place for a change of size bytes.
func Room(dir string, size int) error {
	free, err := freeBytes(dir)
	if err != nil {
		return ofFile("", "asking for free space", err)
	}
	if need := uint64(4*size + 1<<20); free < need {
		return refuse(NoSpace, "", "%s has %d bytes free, %d are needed", dir, free, need)
	}
	return nil
}

// seal makes the bytes of a generation and opens them again as a proof.
func (s *Sealer) seal(ctx context.Context, h *Header, plaintext []byte, slots []Protector) ([]byte, error) {
	dataKey := secret.Random(dataKeySize)
	defer dataKey.Wipe()
	h.SealedAt = s.cfg.Now().UTC().Truncate(time.Second)
	h.nonce = secret.Random(12).Bytes()
	for i, p := range slots {
		slot, err := p.protect(ctx, h, uint8(i+1), dataKey)
		if err != nil {
			return nil, worst(h.Role, []error{coded(HSMUnreachable, err)})
		}
		h.Slots = append(h.Slots, slot)
	}
	b, err := h.encode(dataKey, plaintext)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", h.Role, err)
	}
	return b, prove(ctx, b, plaintext, dataKey, slots)
}

// prove opens what is about to be written, through every slot.
func prove(ctx context.Context, b, plaintext []byte, dataKey secret.Secret, slots []Protector) error {
	f, err := Parse(b)
	if err != nil {
		return fmt.Errorf("opening what was sealed: %w", err)
	}
	for i, p := range slots {
		if err := p.verify(ctx, f, f.Slots[i], dataKey); err != nil {
			return fmt.Errorf("opening what was sealed: %w", err)
		}
	}
	back, err := f.decrypt(dataKey)
	if err != nil {
		return fmt.Errorf("opening what was sealed: %w", err)
	}
	defer back.Wipe()
	if !bytes.Equal(back.Bytes(), plaintext) {
		return fmt.Errorf("opening what was sealed: %s comes back altered", f.Role)
	}
	return nil
}
