package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
)

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
