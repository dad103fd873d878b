package sealing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// box is a place with a sealing key, open or about to be.
type box struct {
	at    seal.Place
	vault Vault               // nil: a credential, or not open
	cred  *seal.CredentialKey // nil: a vault, or not open
	pin   secret.Secret
}

func (b *box) isOpen() bool { return b != nil && (b.vault != nil || b.cred != nil) }

// open opens the place. The PIN is read, or asked for, once.
func (b *box) open(ctx context.Context, folder, what string, o Options) (err error) {
	if b.at.Credential != "" {
		b.cred, err = openCredential(b.at.Credential)
		return err
	}
	if b.pin.IsZero() {
		if b.pin, err = readPINSource(b.at.PINSource, what, o); err != nil {
			return &seal.Error{Code: seal.PIN, Cause: err}
		}
	}
	if b.at.URI == "" {
		v, err := softkey.Open(Within(folder, b.at.KeyFile), b.pin)
		if err != nil {
			return coded(err)
		}
		b.vault = v
		return nil
	}
	uri, err := pkcs11.ParseURI(b.at.URI)
	if err != nil {
		return &seal.Error{Code: seal.Damaged, Cause: fmt.Errorf("%s: uri: %w", seal.BootstrapFile, err)}
	}
	uri.PINSource = ""
	t, err := pkcs11.Open(ctx, pkcs11.Config{URI: uri, PIN: b.pin, Log: o.Log})
	if err != nil {
		return coded(err)
	}
	b.vault = t
	return nil
}

// credentialsVariable names the folder that systemd lays credentials into.
const credentialsVariable = "CREDENTIALS_DIRECTORY"

// credentialOthers are modes that a credential has not: where an access list gives it
// to the service's user, its mode shows the list's mask for the group.
const credentialOthers = 0o007

// credentialFile is where the system lays a credential.
func credentialFile(name string) (string, error) {
	dir := os.Getenv(credentialsVariable)
	if dir == "" {
		return "", fmt.Errorf("the credential %s is not there: the service needs LoadCredential= or LoadCredentialEncrypted=", name)
	}
	return filepath.Join(dir, name), nil
}

// maxCredential bounds a credential, in bytes.
const maxCredential = 64 << 10

// openCredential reads the secret of a credential, all of it.
func openCredential(name string) (*seal.CredentialKey, error) {
	path, err := credentialFile(name)
	if err != nil {
		return nil, &seal.Error{Code: seal.DependencyMissing, Cause: err, Hint: "give the service its credential: systemd-creds encrypt, and LoadCredentialEncrypted=" + name}
	}
	f, err := openPrivate(path, credentialOthers)
	if err != nil {
		return nil, coded(fmt.Errorf("reading the credential %s: %w", name, err))
	}
	defer f.Close()
	b, err := readAtMost(f, maxCredential)
	if err != nil {
		return nil, fmt.Errorf("reading the credential %s: %w", name, err)
	}
	content := secret.New(b)
	defer content.Wipe()
	k, err := seal.NewCredentialKey(name, content)
	if err != nil {
		return nil, &seal.Error{Code: seal.DependencyMissing, Cause: err}
	}
	return k, nil
}

func (b *box) kind() seal.Kind {
	switch {
	case b.at.Credential != "":
		return seal.KindCredential
	case b.at.URI != "":
		return seal.KindPKCS11
	}
	return seal.KindKeyFile
}

func (b *box) keys() seal.Keys {
	if b.cred != nil {
		return b.cred
	}
	return vaultKeys{b.vault, b.kind()}
}

// key is the key that writes use.
func (b *box) key(ctx context.Context) (seal.WrappingKey, error) {
	if b.cred != nil {
		return b.cred, nil
	}
	id, err := b.id()
	if err != nil {
		return nil, err
	}
	return vaultKeys{b.vault, b.kind()}.find(ctx, id)
}

func (b *box) id() (hsm.WrapperID, error) {
	id, err := hsm.ParseWrapperLabel(b.at.Key)
	if err != nil {
		err = &seal.Error{Code: seal.Damaged, Cause: fmt.Errorf("%s: %w", seal.BootstrapFile, err)}
	}
	return id, err
}

// makeKey makes the sealing key and tries it.
func (b *box) makeKey(ctx context.Context, orUse bool) (key seal.WrappingKey, made bool, err error) {
	if b.cred != nil {
		return b.cred, false, seal.Probe(ctx, b.cred)
	}
	id, err := b.id()
	if err != nil {
		return nil, false, err
	}
	w, err := b.vault.GenerateWrapper(ctx, id)
	made = err == nil
	if errors.Is(err, hsm.ErrExists) && orUse {
		w, err = b.vault.Wrapper(ctx, id)
	}
	if errors.Is(err, hsm.ErrExists) {
		return nil, false, fmt.Errorf("making the sealing key: %w: say that it is to be used, or choose another label", err)
	}
	if err != nil {
		return nil, false, coded(fmt.Errorf("making the sealing key: %w", err))
	}
	key = wrappingKey{w, b.kind()}
	if err := seal.Probe(ctx, key); err != nil {
		if made {
			err = errors.Join(err, b.vault.DestroyWrapper(ctx, id))
		}
		return nil, false, err
	}
	return key, made, nil
}

func (b *box) close() error {
	if b == nil {
		return nil
	}
	b.pin.Wipe()
	if b.vault == nil {
		return nil
	}
	return b.vault.Close()
}
