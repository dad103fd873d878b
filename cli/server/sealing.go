package server

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
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
)

// plainNames are where roles lie in a folder that is not sealed.
var plainNames = map[seal.Role]string{RoleConfig: ConfigFile, RolePassphrase: PassphraseFile, RoleServerKey: serverKeyFile}

// plainMode is the mode of a role's plain file.
func plainMode(r seal.Role) os.FileMode {
	if r == RolePassphrase {
		return 0o400
	}
	return 0o600
}

// sealing is an open key over a sealed folder.
type sealing struct {
	folder string
	boot   seal.Bootstrap
	vault  vault
	pin    secret.Secret
	o      Options
	closed bool
	// words is the recovery passphrase once it was asked for.
	words seal.Protector
}

// phaseOf says whether the sealed files of a folder count. A folder without
// seal.toml and without sealed files is plain: no error, no phase.
func phaseOf(folder string) (seal.Bootstrap, error) {
	b, err := seal.LoadBootstrap(folder)
	if errors.Is(err, fs.ErrNotExist) && seal.CodeOf(err) == "" {
		return seal.Bootstrap{}, nil
	}
	return b, err
}

// lockPrepared takes the lock of a folder, and reads its seal.toml when nobody changes
// it any more.
func lockPrepared(folder string) (seal.Bootstrap, *folderLock, error) {
	boot, err := prepared(folder)
	if err != nil {
		return boot, nil, err
	}
	lock, err := lockFolder(within(folder, LockFile))
	if err != nil {
		return boot, nil, err
	}
	if boot, err = prepared(folder); err != nil {
		return boot, nil, errors.Join(err, lock.release())
	}
	return boot, lock, nil
}

// openSealing opens the vault that seal.toml names. It waits for an HSM that does
// not answer for as long as the options say.
func openSealing(ctx context.Context, folder string, boot seal.Bootstrap, o Options) (*sealing, error) {
	o = o.complete()
	s := &sealing{folder: folder, boot: boot, o: o}
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

func openSealVault(ctx context.Context, folder string, boot seal.Bootstrap, pin secret.Secret, o Options) (vault, error) {
	if boot.URI == "" {
		v, err := softkey.Open(within(folder, boot.KeyFile), pin)
		if err != nil {
			return nil, sealed(err)
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
		return nil, sealed(err)
	}
	return t, nil
}

// readPINSource reads a PIN or passphrase from where seal.toml says.
func readPINSource(source, what string, o Options) (secret.Secret, error) {
	kind, value, _ := strings.Cut(source, ":")
	switch kind {
	case "prompt":
		if o.PIN == nil {
			return secret.Secret{}, fmt.Errorf("%s is to be typed, and nobody can be asked", what)
		}
		return o.PIN(what)
	case "file":
		return readPINFile(value)
	case "cred":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return secret.Secret{}, fmt.Errorf("the credential %s is not there: the service needs LoadCredential= or LoadCredentialEncrypted=", value)
		}
		return readPINFile(filepath.Join(dir, value))
	case "fd":
		n, err := strconv.Atoi(value)
		if err != nil {
			return secret.Secret{}, err
		}
		f := os.NewFile(uintptr(n), source)
		if f == nil {
			return secret.Secret{}, fmt.Errorf("file descriptor %d is not open", n)
		}
		defer f.Close()
		return firstLine(f, source)
	}
	return secret.Secret{}, seal.CheckPINSource(source)
}

// readPINFile reads a file that only its owner may read.
func readPINFile(path string) (secret.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return secret.Secret{}, err
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return secret.Secret{}, fmt.Errorf("%s has mode %04o: others may read it; chmod 0400 it", path, st.Mode().Perm())
	}
	return firstLine(f, path)
}

func firstLine(r io.Reader, name string) (secret.Secret, error) {
	const most = 1024
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return secret.Secret{}, fmt.Errorf("reading %s: %w", name, err)
	}
	defer clear(b)
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	if len(line) == 0 || len(b) > most {
		return secret.Secret{}, fmt.Errorf("%s holds no PIN", name)
	}
	return secret.New(bytes.Clone(line)), nil
}

func (o Options) complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(seal.Role, string) {}
	}
	return o
}

// kind is what key slots of this vault are.
func (s *sealing) kind() seal.Kind {
	if s.boot.URI == "" {
		return seal.KindKeyFile
	}
	return seal.KindPKCS11
}

func (s *sealing) keys() vaultKeys { return vaultKeys{s.vault, s.kind()} }

func (s *sealing) anchor() seal.Anchor {
	if s.boot.Anchor == seal.AnchorNone {
		return nil
	}
	return vaultAnchor{s.vault}
}

// sealer is over the folder, with these slots to write with.
func (s *sealing) sealer(slots ...seal.Protector) *seal.Sealer {
	return seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: []seal.Opener{seal.With(s.keys())},
		Slots: slots, Anchor: s.anchor(), Program: s.o.Program, Step: s.o.Step})
}

// key is the key that writes use.
func (s *sealing) key(ctx context.Context) (seal.WrappingKey, error) {
	id, err := hsm.ParseWrapperLabel(s.boot.Key)
	if err != nil {
		return nil, &seal.Error{Code: seal.Damaged, Cause: fmt.Errorf("%s: %w", seal.BootstrapFile, err)}
	}
	return s.keys().find(ctx, id)
}

// slots are what a role is written with: the key, and the recovery slot.
func (s *sealing) slots(r seal.Role, keys ...seal.WrappingKey) ([]seal.Protector, error) {
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

func (s *sealing) recovery() (seal.Protector, error) {
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

// open opens one role.
func (s *sealing) open(ctx context.Context, r seal.Role) (*seal.Opened, error) {
	return s.sealer().Open(ctx, r)
}

// save writes the next generation of a role.
func (s *sealing) save(ctx context.Context, r seal.Role, expect uint64, b []byte) (uint64, error) {
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
func (s *sealing) Close() error {
	if s == nil || s.closed {
		return nil
	}
	s.closed = true
	s.pin.Wipe()
	return s.vault.Close()
}

// has reports whether a role is sealed in this folder.
func (s *sealing) has(r seal.Role) bool { return s != nil && slices.Contains(s.boot.Roles, r) }

// openConfig opens the sealed configuration.
func (s *sealing) openConfig(ctx context.Context) (config.Config, *seal.Opened, error) {
	o, err := s.open(ctx, RoleConfig)
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

// finish removes plain files that a cut change has left beside their sealed ones.
// One that says something else is refused: somebody put it there.
func (s *sealing) finish(ctx context.Context) error {
	for _, r := range s.boot.Roles {
		path := within(s.folder, plainNames[r])
		plain, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return sealed(fmt.Errorf("reading a plain file in a sealed folder: %w", err))
		}
		o, err := s.open(ctx, r)
		same := false
		if err == nil {
			same = subtle.ConstantTimeCompare(o.Bytes(), plain) == 1
			o.Wipe()
		}
		clear(plain)
		if errors.Is(err, seal.SealedMissing) && r == RoleServerKey {
			same = true // the node makes another one
		} else if err != nil {
			return err
		}
		if !same {
			return &seal.Error{Code: seal.PlaintextFound, Role: r, Cause: fmt.Errorf("%s is there and says something else than the sealed file", path)}
		}
		s.o.Log.WarnContext(ctx, "removing a plain file that an interrupted change left", slog.String("file", path))
		if err := shred(path); err != nil {
			return sealed(err)
		}
	}
	return nil
}

// shred overwrites and removes a file, as far as the disk does what it is told.
func shred(path string) error {
	if err := os.Chmod(path, 0o600); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			_, _ = f.Write(make([]byte, st.Size()))
			_ = f.Sync()
		}
		f.Close()
	}
	return seal.Remove(path)
}

// keysOf opens the node's keys: the vault of the sealing key where they are in the
// same place.
func (s *sealing) keysOf(ctx context.Context, c config.HSM, o Options) (vault, error) {
	if same, err := s.holds(c); err != nil || same {
		return s.vault, err
	}
	if s.has(RolePassphrase) {
		p, err := s.open(ctx, RolePassphrase)
		if err != nil {
			return nil, err
		}
		defer p.Wipe()
		v, err := softkey.Open(within(s.folder, KeyFile), secret.New(trimNewline(p.Bytes())))
		if err != nil {
			return nil, fmt.Errorf("opening the key file: %w", err)
		}
		return v, nil
	}
	return openVault(ctx, c, func(name string) string { return within(s.folder, name) }, o)
}

// holds reports whether the node's keys are where the sealing key is.
func (s *sealing) holds(c config.HSM) (bool, error) {
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

// health says whether the sealing key answers. That it does not stops nothing: it is
// needed at the next start and for the next change.
func (s *sealing) health(ctx context.Context) string {
	key, err := s.key(ctx)
	if err == nil {
		err = seal.Probe(ctx, key)
	}
	if err != nil {
		return fmt.Sprintf("%s: the node goes on, the next start or change of the configuration needs it: %v", seal.CodeOf(err), err)
	}
	return "ok"
}
