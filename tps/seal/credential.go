package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"

	"inkan/apdu/secret"
)

// MinCredential is the shortest content of a credential, in bytes: 256 random bits
// as they are, or written in any way.
const MinCredential = 32

var credentialPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// CheckCredential reports whether a credential may have this name.
func CheckCredential(name string) error {
	if !credentialPattern.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("%q is no name of a credential", name)
	}
	return nil
}

// CredentialKey is a wrapping key out of a secret that the system hands to the
// service: a systemd credential, which the TPM may protect (systemd-creds(1)).
type CredentialKey struct {
	name string
	kcv  []byte
	aead cipher.AEAD
}

// NewCredentialKey derives the key of a credential by HKDF-SHA-256 from its content,
// which is not retained. Its name is part of the key.
func NewCredentialKey(name string, content secret.Secret) (*CredentialKey, error) {
	if err := CheckCredential(name); err != nil {
		return nil, err
	}
	if content.Len() < MinCredential {
		return nil, fmt.Errorf("the credential %s has %d bytes, a key needs %d at least", name, content.Len(), MinCredential)
	}
	key, err := hkdf.Key(sha256.New, content.Bytes(), nil, "TMSSEAL-v1 credential "+name, dataKeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k := &CredentialKey{name: name, kcv: make([]byte, aes.BlockSize)}
	b.Encrypt(k.kcv, k.kcv)
	k.kcv = k.kcv[:3]
	k.aead, err = cipher.NewGCM(b)
	return k, err
}

// Describe implements [WrappingKey].
func (k *CredentialKey) Describe() KeyDescription {
	return KeyDescription{Kind: KindCredential, Label: k.name, KCV: k.kcv}
}

// Wrap implements [WrappingKey].
func (k *CredentialKey) Wrap(_ context.Context, dataKey secret.Secret, aad []byte) (Wrapped, error) {
	nonce := secret.Random(12).Bytes()
	return Wrapped{Mechanism: MechanismGCM, Nonce: nonce, Data: k.aead.Seal(nil, nonce, dataKey.Bytes(), aad)}, nil
}

// Unwrap implements [WrappingKey].
func (k *CredentialKey) Unwrap(_ context.Context, w Wrapped, aad []byte) (secret.Secret, error) {
	if w.Mechanism != MechanismGCM || len(w.Nonce) != k.aead.NonceSize() {
		return secret.Secret{}, errors.New("it was not wrapped by a credential")
	}
	b, err := k.aead.Open(nil, w.Nonce, w.Data, aad)
	if err != nil {
		return secret.Secret{}, errors.New("the credential does not open it")
	}
	return secret.New(b), nil
}

// Key implements [Keys]: a credential is the one key there is.
func (k *CredentialKey) Key(_ context.Context, label string, id []byte) (WrappingKey, error) {
	if label != k.name || len(id) > 0 {
		return nil, refuse(KeyMissing, "", "the credential is %s, not %s", k.name, label)
	}
	return k, nil
}
