package sealing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tps/seal"
)

// Roles of sealed files.
const (
	RoleConfig     seal.Role = ConfigFile
	RolePassphrase seal.Role = PassphraseFile
	RoleServerKey  seal.Role = "server.key" // of the node's own certificate
	RolePeerKey    seal.Role = "peer.key"   // of its certificate in the array
	RolePeerCA     seal.Role = "peerca.key" // of the array's CA, on a node without HSM and key file
)

// roles say where each lies in a folder that is not sealed.
var roles = map[seal.Role]struct {
	file string
	mode os.FileMode
	// remade: the node makes it when it is not there, and another one when it is lost.
	// It has no recovery slot, so that the node writes it without being told the
	// recovery passphrase.
	remade bool
}{
	RoleConfig:     {file: ConfigFile, mode: 0o600},
	RolePassphrase: {file: PassphraseFile, mode: 0o400},
	RoleServerKey:  {file: ServerKeyFile, mode: 0o600, remade: true},
	RolePeerKey:    {file: PeerKeyFile, mode: 0o600, remade: true},
	RolePeerCA:     {file: PeerCAFile, mode: 0o600, remade: true},
}

// Roles lists what is sealed, by name.
func Roles() []seal.Role { return slices.Sorted(maps.Keys(roles)) }

// plainFile is where a role lies in a folder that is not sealed.
func plainFile(folder string, r seal.Role) string { return Within(folder, roles[r].file) }

// unmade reports whether a role is only not made yet.
func unmade(r seal.Role, err error) bool {
	return roles[r].remade && errors.Is(err, seal.SealedMissing)
}

// RoleFile keeps a private key of the node in its role: sealed where the folder is, else
// in a plain file. It is safe for concurrent use.
type RoleFile struct {
	folder string
	s      *Folder // nil: the folder is plain
	role   seal.Role
}

// File is that of a role; a nil Folder is that of a plain folder.
func (s *Folder) File(folder string, r seal.Role) RoleFile {
	if !s.Has(r) {
		s = nil
	}
	return RoleFile{folder, s, r}
}

// Load reads the key. The error is fs.ErrNotExist where nothing was saved yet.
func (k RoleFile) Load(ctx context.Context) (secret.Secret, error) {
	b, _, err := k.load(ctx)
	return b, err
}

func (k RoleFile) load(ctx context.Context) (secret.Secret, uint64, error) {
	if k.s == nil {
		b, err := readPrivate(plainFile(k.folder, k.role))
		return b, 0, err
	}
	o, err := k.s.Open(ctx, k.role)
	if unmade(k.role, err) {
		return secret.Secret{}, 0, errors.Join(fmt.Errorf("%s: %w", k.role, fs.ErrNotExist), err)
	}
	if err != nil {
		return secret.Secret{}, 0, err
	}
	return secret.New(o.Bytes()), o.Generation(), nil
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) (secret.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	if err := durable.CheckPrivate(f); err != nil {
		return secret.Secret{}, err
	}
	b, err := io.ReadAll(f)
	return secret.New(b), err
}

// Save replaces the key, whole and durably. It neither retains nor wipes it.
func (k RoleFile) Save(ctx context.Context, key secret.Secret) error {
	if k.s == nil {
		return WriteFile(plainFile(k.folder, k.role), key.Bytes(), roles[k.role].mode)
	}
	old, g, err := k.load(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old.Wipe()
	_, err = k.s.Save(ctx, k.role, g, key.Bytes())
	return err
}
