package seal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"inkan/apdu/durable"
)

// Roles lists the roles that have a sealed file in a folder, or one before it, by
// name.
func Roles(dir string) ([]Role, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ofFile("", "listing sealed files", err)
	}
	var out []Role
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), PrevSuffix)
		if !ok {
			name, ok = strings.CutSuffix(e.Name(), Suffix)
		}
		if r := Role(name); ok && r.Check() == nil && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// State is what is known of a role without opening it.
type State struct {
	*File
	Anchor uint64 // generation that the anchor knows; 0: none, or no anchor
	Prev   bool   // the generation before is there
}

// State compares a role's file with its anchor, and changes nothing.
func (s *Sealer) State(ctx context.Context, r Role) (State, error) {
	f, err := s.Inspect(r)
	if err != nil {
		return State{}, err
	}
	st := State{File: f}
	if _, err := os.Lstat(s.path(r.Prev())); err == nil {
		st.Prev = true
	}
	if s.cfg.Anchor != nil {
		st.Anchor, err = s.cfg.Anchor.Generation(ctx, s.cfg.Instance, r)
	}
	return st, coded(HSMUnreachable, err)
}

// Peek opens the file of this name, [Role.File] or [Role.Prev], and asks neither the
// folder's lock nor the anchor: it may be an old one. The caller wipes it.
func (s *Sealer) Peek(ctx context.Context, r Role, name string) (*Opened, error) {
	f, _, err := s.load(r, name)
	if err != nil {
		return nil, err
	}
	if err := s.identify(f, r); err != nil {
		return nil, err
	}
	return s.decrypt(ctx, f)
}

// Recovery says what [Sealer.Recover] accepts besides a file in order.
type Recovery struct {
	FromPrev bool // open the generation before: the newest is lost or damaged
	// Generation is one that is behind the anchor, or unknown to it; 0: only what the
	// anchor says.
	Generation uint64
}

// Recover opens a role whatever anchor it was written for, writes its content as a
// generation above all that the anchor knows, and sets the anchor to it.
func (s *Sealer) Recover(ctx context.Context, r Role, o Recovery) (g uint64, err error) {
	err = s.exclusively(ctx, func() error {
		g, err = s.recover(ctx, r, o)
		return err
	})
	return g, err
}

func (s *Sealer) recover(ctx context.Context, r Role, o Recovery) (uint64, error) {
	name := r.File()
	if o.FromPrev {
		name = r.Prev()
	}
	f, old, err := s.load(r, name)
	if err != nil {
		return 0, err
	}
	if err := s.identify(f, r); err != nil {
		return 0, err
	}
	known := uint64(0)
	if s.cfg.Anchor != nil {
		if known, err = s.cfg.Anchor.Generation(ctx, s.cfg.Instance, r); err != nil {
			return 0, coded(HSMUnreachable, err)
		}
	}
	back := f.Generation < known && !(o.FromPrev && f.Generation+1 == known)
	if back && o.Generation != f.Generation {
		return 0, refuse(Rollback, r, "it is generation %d, generation %d was written; say --accept-generation %d to go back to it", f.Generation, known, f.Generation)
	}
	opened, err := s.decrypt(ctx, f)
	if err != nil {
		return 0, err
	}
	defer opened.Wipe()
	above := max(f.Generation, known)
	if newest, err := s.Inspect(r); err == nil {
		above = max(above, newest.Generation)
	}
	h := Header{Instance: s.cfg.Instance, Role: r, Generation: above + 1, Program: s.cfg.Program, Anchor: s.cfg.AnchorName, ContentType: contentType(r), Previous: f.Hash[:]}
	return h.Generation, s.replace(ctx, &h, old, opened.Bytes(), s.cfg.Slots)
}

// Adopt accepts a file that is ahead of the anchor, after opening it: the HSM was
// restored from a backup. It returns the generation that the anchor had.
func (s *Sealer) Adopt(ctx context.Context, r Role) (was, now uint64, err error) {
	if s.cfg.Anchor == nil {
		return 0, 0, errors.New("there is no anchor to set")
	}
	err = s.exclusively(ctx, func() error {
		f, _, err := s.load(r, r.File())
		if err != nil {
			return err
		}
		if err := errors.Join(s.identify(f, r), s.sameAnchor(f)); err != nil {
			return err
		}
		now = f.Generation
		if was, err = s.cfg.Anchor.Generation(ctx, s.cfg.Instance, r); err != nil {
			return coded(HSMUnreachable, err)
		}
		if now < was {
			return refuse(Rollback, r, "it is generation %d, generation %d was written", now, was)
		}
		o, err := s.decrypt(ctx, f)
		if err != nil {
			return err
		}
		o.Wipe()
		return coded(HSMUnreachable, s.cfg.Anchor.SetGeneration(ctx, s.cfg.Instance, r, now))
	})
	return was, now, err
}

// Drop removes a role: its file, the generation before, what cut writes left, and
// its anchor. It needs no key.
func (s *Sealer) Drop(ctx context.Context, r Role) error {
	if err := r.Check(); err != nil {
		return err
	}
	return s.exclusively(ctx, func() error {
		s.cfg.Step(r, "drop")
		err := errors.Join(durable.Remove(s.path(r.File())), durable.Remove(s.path(r.Prev())),
			durable.RemoveTemps(s.path(r.File())), durable.RemoveTemps(s.path(r.Prev())))
		if err != nil {
			return ofFile(r, "removing the sealed file", err)
		}
		if s.cfg.Anchor == nil {
			return nil
		}
		s.cfg.Step(r, "forget")
		if err := s.cfg.Anchor.Forget(ctx, s.cfg.Instance, r); err != nil {
			return coded(HSMUnreachable, fmt.Errorf("forgetting the generation of %s: %w", r, err))
		}
		return nil
	})
}

// Leftovers are files of cut writes in a folder.
func Leftovers(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, ".*"+Suffix+"*"+durable.TempMark+"*"))
}
