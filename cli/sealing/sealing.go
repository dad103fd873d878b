// Package sealing opens what is needed first of a data folder, its configuration and
// the vault of its keys, and changes how they are protected: plain files, or sealed
// ones under a key in an HSM or the key file (tps/seal, config-sealing.md §9 to §13).
//
// [LockPrepared] and [Open] are how a node starts; [Seal], [Reseal], [RotateKey],
// [Recover], [Disable] and the others are the commands of inkan config, which work on
// a folder that no node has open. [Diagnose] is inkan doctor.
//
// A Folder is safe for concurrent use.
package sealing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"inkan/cli/config"
	"inkan/tps/seal"
)

// Folder is a sealed folder whose key is open.
type Folder struct {
	folder string
	boot   seal.Bootstrap
	o      Options
	more   []seal.Opener // of a recovery, tried first
	seen   *lastConfig

	mu     sync.Mutex
	boxes  []*box // one per place of boot
	closed bool
	// words is the recovery passphrase once it was asked for.
	words seal.Protector
}

// lastConfig is the configuration that was opened last, to know where the records
// are when it is gone.
type lastConfig struct {
	mu    sync.Mutex
	known bool
	c     config.Config
}

func (l *lastConfig) set(c config.Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c, l.known = c, true
}

func (l *lastConfig) get() (config.Config, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c, l.known
}

// Open opens the place of the sealing key that seal.toml names, or where that does not
// open another one that the files are written for. It waits for an HSM that does not
// answer for as long as the options say.
func Open(ctx context.Context, folder string, boot seal.Bootstrap, o Options) (*Folder, error) {
	o = o.Complete()
	s := &Folder{folder: folder, boot: boot, o: o, seen: &lastConfig{}}
	for _, p := range boot.Places() {
		s.boxes = append(s.boxes, &box{at: p})
	}
	for end := time.Now().Add(o.WaitHSM); ; {
		err := s.openOne(ctx)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, seal.HSMUnreachable) || time.Now().After(end) {
			return nil, errors.Join(err, s.Close())
		}
		o.Log.WarnContext(ctx, "waiting for the HSM", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err, s.Close())
		case <-time.After(min(time.Second, time.Until(end)+time.Millisecond)):
		}
	}
}

// Open opens one role.
func (s *Folder) Open(ctx context.Context, r seal.Role) (*seal.Opened, error) {
	return s.reader().Open(ctx, r)
}

// Save writes the next generation of a role.
func (s *Folder) Save(ctx context.Context, r seal.Role, expect uint64, b []byte) (uint64, error) {
	keys, err := s.everyKey(ctx)
	if err != nil {
		return 0, err
	}
	w, err := s.writer(r, keys...)
	if err != nil {
		return 0, err
	}
	return w.Save(ctx, r, expect, b)
}

// Close ends the use of the key.
func (s *Folder) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, b := range s.boxes {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// Has reports whether a role is sealed in this folder.
func (s *Folder) Has(r seal.Role) bool { return s != nil && slices.Contains(s.boot.Roles, r) }

// Config opens the sealed configuration.
func (s *Folder) Config(ctx context.Context) (config.Config, *seal.Opened, error) {
	o, err := s.Open(ctx, RoleConfig)
	if err != nil {
		return config.Config{}, nil, err
	}
	c, err := decodeSealed(o.Bytes())
	if err != nil {
		o.Wipe()
		return c, nil, err
	}
	return c, o, nil
}

// decodeSealed decodes what was sealed: what does not decode was never meant to be
// there.
func decodeSealed(b []byte) (config.Config, error) {
	err := errors.New("it is not UTF-8 text")
	var c config.Config
	if utf8.Valid(b) {
		c, err = config.Decode(b)
	}
	if !utf8.Valid(b) || err != nil {
		return c, &seal.Error{Code: seal.Damaged, Role: RoleConfig, Cause: fmt.Errorf("not a valid sealed configuration: %w", err)}
	}
	return c, nil
}

// Health says whether the sealing key answers. That it does not stops nothing: it is
// needed at the next start and for the next change.
func (s *Folder) Health(ctx context.Context) string {
	key, err := s.key(ctx)
	if err == nil {
		err = seal.Probe(ctx, key)
	}
	if err != nil {
		return fmt.Sprintf("%s: the node goes on, the next start or change of the configuration needs it: %v", seal.CodeOf(err), err)
	}
	if b := s.first(); b != s.boxes[0] {
		return fmt.Sprintf("ok by %s; the first key slot did not open at the start", b.at)
	}
	return "ok"
}

// Recipient is who opens the sealed files without the HSM: an age recipient,
// seal.RecoveryPassphrase, or nobody. A nil Folder has none.
func (s *Folder) Recipient() string {
	if s == nil {
		return ""
	}
	return s.boot.Recipient
}
