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
