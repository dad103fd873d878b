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
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
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

// PhaseOf says whether the sealed files of a folder count. A folder without
// seal.toml and without sealed files is plain: no error, no phase.
func PhaseOf(folder string) (seal.Bootstrap, error) {
	b, err := seal.LoadBootstrap(folder)
	if errors.Is(err, fs.ErrNotExist) && seal.CodeOf(err) == "" {
		return seal.Bootstrap{}, nil
	}
	return b, err
}

// ErrNotPrepared means that the folder is not a data folder yet.
var ErrNotPrepared = errors.New("the data folder is not prepared: run inkan init first")

// Prepared reports a folder that is none yet; else what seal.toml says, if it is
// there.
func Prepared(folder string) (seal.Bootstrap, error) {
	boot, err := PhaseOf(folder)
	if err != nil || boot.Phase == seal.Sealed {
		return boot, err
	}
	if _, err := os.Stat(Within(folder, ConfigFile)); errors.Is(err, os.ErrNotExist) {
		return boot, fmt.Errorf("%s: %w", folder, ErrNotPrepared)
	}
	return boot, nil
}

// LockPrepared takes the lock of a folder, and reads its seal.toml when nobody changes
// it any more.
func LockPrepared(folder string) (seal.Bootstrap, *durable.Lock, error) {
	boot, err := Prepared(folder)
	if err != nil {
		return boot, nil, err
	}
	lock, err := Lock(Within(folder, LockFile))
	if err != nil {
		return boot, nil, err
	}
	if boot, err = Prepared(folder); err != nil {
		return boot, nil, errors.Join(err, lock.Release())
	}
	return boot, lock, nil
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

// openOne opens the first place that opens.
func (s *Folder) openOne(ctx context.Context) error {
	var errs []error
	for i, b := range s.boxes {
		err := b.open(ctx, s.folder, s.what(i), s.o)
		if err == nil {
			if i > 0 {
				s.o.Log.WarnContext(ctx, "the first key slot does not open, another one does", slog.String("slot", b.at.String()), slog.Any("err", errors.Join(errs...)))
			}
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// what names a PIN to whoever types it.
func (s *Folder) what(i int) string {
	switch p := s.boxes[i].at; {
	case p.URI == "":
		return "Passphrase of the key file"
	case i > 0:
		if u, err := pkcs11.ParseURI(p.URI); err == nil {
			return "PIN of the HSM token " + u.Token
		}
	}
	return "PIN of the HSM token"
}

// first is the place that is in use: the first that is open.
func (s *Folder) first() *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boxes {
		if b.isOpen() {
			return b
		}
	}
	return s.boxes[0]
}

// opened are the places that are open.
func (s *Folder) opened() []*box {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.boxes), func(b *box) bool { return !b.isOpen() })
}

func (s *Folder) openVaults() (out []Vault) {
	for _, b := range s.opened() {
		if b.vault != nil {
			out = append(out, b.vault)
		}
	}
	return out
}

// openKeys are the keys of the places that are open.
func (s *Folder) openKeys(ctx context.Context) (out []seal.WrappingKey, err error) {
	for _, b := range s.opened() {
		k, err := b.key(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// openKeys finds a key in any place that is open.
type openKeys struct{ s *Folder }

func (k openKeys) Key(ctx context.Context, label string, id []byte) (seal.WrappingKey, error) {
	err := error(&seal.Error{Code: seal.KeyMissing, Cause: fmt.Errorf("no place is open that could have key %s", label)})
	for _, b := range k.s.opened() {
		var key seal.WrappingKey
		if key, err = b.keys().Key(ctx, label, id); err == nil {
			return key, nil
		}
	}
	return nil, err
}

// everyKey opens the places that are not open yet: each write is for all of them.
func (s *Folder) everyKey(ctx context.Context) (out []seal.WrappingKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.boxes {
		if !b.isOpen() {
			err = b.open(ctx, s.folder, s.what(i), s.o)
		}
		var k seal.WrappingKey
		if err == nil {
			k, err = b.key(ctx)
		}
		if err != nil && len(s.boxes) > 1 {
			return nil, &seal.Error{Code: codeOr(err, seal.HSMUnreachable), Cause: fmt.Errorf("a change is written for every key slot, and %s does not open: %w", b.at, err),
				Hint: "bring it back; or go on without it: inkan config reseal --remove-slot"}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func codeOr(err error, c seal.Code) seal.Code {
	if found := seal.CodeOf(err); found != "" {
		return found
	}
	return c
}

// with is the folder with other places, and what was asked for.
func (s *Folder) with(boot seal.Bootstrap, boxes ...*box) *Folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Folder{folder: s.folder, boot: boot, o: s.o, more: s.more, seen: s.seen, boxes: boxes, words: s.words}
}

// openers are of every place that is open.
func (s *Folder) openers() []seal.Opener {
	out := slices.Clone(s.more)
	for _, b := range s.opened() {
		out = append(out, seal.With(b.keys()))
	}
	return out
}

// sealer is over the folder; it writes for these keys and with these slots.
func (s *Folder) sealer(keys []seal.WrappingKey, slots ...seal.Protector) *seal.Sealer {
	return seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: s.openers(),
		Slots: slots, Anchor: s.anchor(keys...), AnchorName: s.boot.Anchor, Program: s.o.Program, Step: s.o.Step})
}

// reader opens and removes.
func (s *Folder) reader() *seal.Sealer { return s.sealer(nil) }

// writer writes a role for these keys, and the recovery slot.
func (s *Folder) writer(r seal.Role, keys ...seal.WrappingKey) (*seal.Sealer, error) {
	slots, err := s.slots(r, keys...)
	if err != nil {
		return nil, err
	}
	return s.sealer(keys, slots...), nil
}

// key is the key that is in use.
func (s *Folder) key(ctx context.Context) (seal.WrappingKey, error) { return s.first().key(ctx) }

// slots are what a role is written with: the key, and the recovery slot.
func (s *Folder) slots(r seal.Role, keys ...seal.WrappingKey) ([]seal.Protector, error) {
	var out []seal.Protector
	for _, k := range keys {
		out = append(out, seal.Under(k))
	}
	if roles[r].remade || s.boot.Recipient == "" {
		return out, nil
	}
	p, err := s.recovery()
	return append(out, p), err
}

func (s *Folder) recovery() (seal.Protector, error) {
	if s.boot.Recipient != seal.RecoveryPassphrase {
		return seal.ForAge(s.boot.Recipient)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.words != nil {
		return s.words, nil
	}
	if s.o.Recovery == nil {
		return nil, errors.New("a change needs the recovery passphrase, and nobody can be asked")
	}
	p, err := s.o.Recovery()
	if err != nil {
		return nil, err
	}
	s.words, err = seal.ForPassphrase(p, s.o.RecoveryCost)
	return s.words, err
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

// KeysOf opens the node's keys: the vault of the sealing key where they are in the
// same place.
func (s *Folder) KeysOf(ctx context.Context, c config.HSM, o Options) (Vault, error) {
	for i, b := range s.boxes {
		same, err := holds(b.at, c)
		if err != nil {
			return nil, err
		}
		if same && !b.isOpen() {
			err = b.open(ctx, s.folder, s.what(i), s.o)
		}
		if same {
			return b.vault, err
		}
	}
	if s.Has(RolePassphrase) {
		p, err := s.Open(ctx, RolePassphrase)
		if err != nil {
			return nil, err
		}
		defer p.Wipe()
		v, err := softkey.Open(Within(s.folder, KeyFile), secret.New(trimNewline(p.Bytes())))
		if err != nil {
			return nil, fmt.Errorf("opening the key file: %w", err)
		}
		return v, nil
	}
	return OpenVault(ctx, c, func(name string) string { return Within(s.folder, name) }, o)
}

// holds reports whether the node's keys are in this place.
func holds(p seal.Place, c config.HSM) (bool, error) {
	if c.URI == "" || p.URI == "" {
		return c.URI == "" && p.KeyFile == KeyFile, nil
	}
	own, err := pkcs11.ParseURI(c.URI)
	if err != nil {
		return false, fmt.Errorf("[hsm] uri: %w", err)
	}
	ours, err := pkcs11.ParseURI(p.URI)
	if err != nil {
		return false, err
	}
	own.PINSource, ours.PINSource = "", ""
	return own.String() == ours.String(), nil
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
