package sealing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// Vault is what a node needs of its HSM or key file.
type Vault interface {
	hsm.Vault
	hsm.Signers
	hsm.Wrappers
	hsm.Counters
	io.Closer
}

// OpenVault opens the HSM or key file that the configuration names. path resolves
// names in the data folder.
func OpenVault(ctx context.Context, c config.HSM, path func(string) string, o Options) (Vault, error) {
	if c.URI != "" {
		uri, err := pkcs11.ParseURI(c.URI)
		if err != nil {
			return nil, fmt.Errorf("[hsm] uri: %w", err)
		}
		cfg := pkcs11.Config{URI: uri, OpTimeout: time.Duration(c.OpTimeout), Log: o.Log}
		if uri.PINSource == "" && o.PIN != nil {
			if cfg.PIN, err = o.PIN("PIN of the HSM token"); err != nil {
				return nil, err
			}
			defer cfg.PIN.Wipe()
		}
		return pkcs11.Open(ctx, cfg)
	}
	p, err := passphrase(path(PassphraseFile), o)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	v, err := softkey.Open(path(KeyFile), p)
	if err != nil {
		return nil, fmt.Errorf("opening the key file: %w", err)
	}
	return v, nil
}

func passphrase(file string, o Options) (secret.Secret, error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		return secret.New(trimNewline(b)), nil
	case !errors.Is(err, os.ErrNotExist):
		return secret.Secret{}, fmt.Errorf("reading the passphrase of the key file: %w", err)
	case o.Passphrase == nil:
		return secret.Secret{}, fmt.Errorf("the key file's passphrase is not in %s and cannot be asked for here", file)
	}
	return o.Passphrase()
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
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
