// Package realmtest has a vault in memory for tests of who uses a realm.
package realmtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"

	"inkan/tps/realm"
)

// Vault is a vault in memory. Its zero value is an empty one; it is safe for concurrent
// use.
type Vault struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer
	fail error
}

var _ realm.Vault = (*Vault)(nil)

// Generate implements realm.Vault.
func (v *Vault) Generate(ctx context.Context, name string, k realm.Kind) (crypto.Signer, error) {
	s, err := generate(k)
	if err != nil {
		return nil, err
	}
	return s, v.Import(ctx, name, s)
}

func generate(k realm.Kind) (crypto.Signer, error) {
	switch k {
	case "ec-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ec-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ec-p521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, s, err := ed25519.GenerateKey(rand.Reader)
		return s, err
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("kind %s", k)
}

// Import implements realm.Vault.
func (v *Vault) Import(_ context.Context, name string, key crypto.Signer) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys[name] != nil {
		return errors.New("exists")
	}
	if v.keys == nil {
		v.keys = map[string]crypto.Signer{}
	}
	v.keys[name] = key
	return nil
}

// Signer implements realm.Vault.
func (v *Vault) Signer(_ context.Context, name string) (crypto.Signer, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.keys[name]; k != nil {
		return k, nil
	}
	return nil, errors.New("no such key")
}

// Destroy implements realm.Vault.
func (v *Vault) Destroy(_ context.Context, name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail == nil {
		delete(v.keys, name)
	}
	return v.fail
}

// Keep has Destroy fail with err from now on; nil: no more.
func (v *Vault) Keep(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = err
}

// Lose is what happens to a key in a vault that is cleared.
func (v *Vault) Lose(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.keys, name)
}

// Size is how many keys are there.
func (v *Vault) Size() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}
