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
	"time"
	"unicode/utf8"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// Roles of sealed files. The server key has no recovery slot: a lost one is made
// anew.
const (
	RoleConfig     seal.Role = ConfigFile
	RolePassphrase seal.Role = PassphraseFile
	RoleServerKey  seal.Role = "server.key"
	RolePeerKey    seal.Role = "peer.key"
	RolePeerCA     seal.Role = "peer-ca.key"
)

// plainNames are where roles lie in a folder that is not sealed.
var plainNames = map[seal.Role]string{RoleConfig: ConfigFile, RolePassphrase: PassphraseFile, RoleServerKey: ServerKeyFile}

// plainMode is the mode of a role's plain file.
func plainMode(r seal.Role) os.FileMode {
	if r == RolePassphrase {
		return 0o400
	}
	return 0o600
}

// Folder is a sealed folder whose key is open.
type Folder struct {
	folder string
	boot   seal.Bootstrap
	vault  Vault
	pin    secret.Secret
	o      Options
	closed bool
	// words is the recovery passphrase once it was asked for.
	words seal.Protector
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
func LockPrepared(folder string) (seal.Bootstrap, *FolderLock, error) {
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

// Open opens the vault that seal.toml names. It waits for an HSM that does
// not answer for as long as the options say.
func Open(ctx context.Context, folder string, boot seal.Bootstrap, o Options) (*Folder, error) {
	o = o.Complete()
	s := &Folder{folder: folder, boot: boot, o: o}
	what := "PIN of the HSM token"
	if boot.URI == "" {
		what = "Passphrase of the key file"
	}
	var err error
	if s.pin, err = readPINSource(boot.PINSource, what, o); err != nil {
		return nil, &seal.Error{Code: seal.PIN, Cause: err}
	}
	for end := time.Now().Add(o.WaitHSM); ; {
		s.vault, err = openSealVault(ctx, folder, boot, s.pin, o)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, seal.HSMUnreachable) || time.Now().After(end) {
			s.pin.Wipe()
			return nil, err
		}
		o.Log.WarnContext(ctx, "waiting for the HSM", slog.Any("err", err))
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(min(time.Second, time.Until(end)+time.Millisecond)):
		}
	}
}

func openSealVault(ctx context.Context, folder string, boot seal.Bootstrap, pin secret.Secret, o Options) (Vault, error) {
	if boot.URI == "" {
		v, err := softkey.Open(Within(folder, boot.KeyFile), pin)
		if err != nil {
			return nil, coded(err)
		}
		return v, nil
	}
	uri, err := pkcs11.ParseURI(boot.URI)
	if err != nil {
		return nil, &seal.Error{Code: seal.Damaged, Cause: fmt.Errorf("%s: uri: %w", seal.BootstrapFile, err)}
	}
	uri.PINSource = ""
	t, err := pkcs11.Open(ctx, pkcs11.Config{URI: uri, PIN: pin, Log: o.Log})
	if err != nil {
		return nil, coded(err)
	}
	return t, nil
}

// kind is what key slots of this vault are.
func (s *Folder) kind() seal.Kind {
	if s.boot.URI == "" {
		return seal.KindKeyFile
	}
	return seal.KindPKCS11
}

func (s *Folder) keys() vaultKeys { return vaultKeys{s.vault, s.kind()} }

func (s *Folder) anchor() seal.Anchor {
	if s.boot.Anchor == seal.AnchorNone {
		return nil
	}
	return vaultAnchor{s.vault}
}

// sealer is over the folder, with these slots to write with.
func (s *Folder) sealer(slots ...seal.Protector) *seal.Sealer {
	return seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: []seal.Opener{seal.With(s.keys())},
		Slots: slots, Anchor: s.anchor(), Program: s.o.Program, Step: s.o.Step})
}

// key is the key that writes use.
func (s *Folder) key(ctx context.Context) (seal.WrappingKey, error) {
	id, err := hsm.ParseWrapperLabel(s.boot.Key)
	if err != nil {
		return nil, &seal.Error{Code: seal.Damaged, Cause: fmt.Errorf("%s: %w", seal.BootstrapFile, err)}
	}
	return s.keys().find(ctx, id)
}

// slots are what a role is written with: the key, and the recovery slot.
func (s *Folder) slots(r seal.Role, keys ...seal.WrappingKey) ([]seal.Protector, error) {
	var out []seal.Protector
	for _, k := range keys {
		out = append(out, seal.Under(k))
	}
	if r == RoleServerKey || s.boot.Recipient == "" {
		return out, nil
	}
	p, err := s.recovery()
	return append(out, p), err
}

func (s *Folder) recovery() (seal.Protector, error) {
	if s.boot.Recipient != seal.RecoveryPassphrase {
		return seal.ForAge(s.boot.Recipient)
	}
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
	return s.sealer().Open(ctx, r)
}

// Save writes the next generation of a role.
func (s *Folder) Save(ctx context.Context, r seal.Role, expect uint64, b []byte) (uint64, error) {
	key, err := s.key(ctx)
	if err != nil {
		return 0, err
	}
	slots, err := s.slots(r, key)
	if err != nil {
		return 0, err
	}
	return s.sealer(slots...).Save(ctx, r, expect, b)
}

// Close ends the use of the key.
func (s *Folder) Close() error {
	if s == nil || s.closed {
		return nil
	}
	s.closed = true
	s.pin.Wipe()
	return s.vault.Close()
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
	if same, err := s.holds(c); err != nil || same {
		return s.vault, err
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

// holds reports whether the node's keys are where the sealing key is.
func (s *Folder) holds(c config.HSM) (bool, error) {
	if c.URI == "" || s.boot.URI == "" {
		return c.URI == "" && s.boot.KeyFile == KeyFile, nil
	}
	own, err := pkcs11.ParseURI(c.URI)
	if err != nil {
		return false, fmt.Errorf("[hsm] uri: %w", err)
	}
	ours, err := pkcs11.ParseURI(s.boot.URI)
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
