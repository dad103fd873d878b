package realm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Magic numbers of key stores.
var (
	magicJKS   = []byte{0xFE, 0xED, 0xFE, 0xED}
	magicJCEKS = []byte{0xCE, 0xCE, 0xCE, 0xCE}
)

// openKeystore takes one key out of a Java key store; what it is, its first bytes say.
func openKeystore(n *NewKey) (key crypto.Signer, chain []*x509.Certificate, err error) {
	b := n.Material.Bytes()
	if len(b) > maxMaterial {
		return nil, nil, fmt.Errorf("key store of %d bytes: want at most %d: %w", len(b), maxMaterial, ErrInput)
	}
	defer func() { // the decoders of others, on a file of others
		if p := recover(); p != nil {
			key, chain, err = nil, nil, fmt.Errorf("the key store cannot be decoded: %w", ErrInput)
		}
	}()
	switch {
	case bytes.HasPrefix(b, magicJKS):
		return openJKS(n)
	case bytes.HasPrefix(b, magicJCEKS):
		return nil, nil, fmt.Errorf("the file is a JCEKS key store; keytool -importkeystore -deststoretype PKCS12 makes one that can be read: %w", ErrInput)
	case len(b) > 0 && b[0] == 0x30:
		return openPKCS12(n)
	}
	return nil, nil, fmt.Errorf("the file is neither a JKS nor a PKCS #12 key store: %w", ErrInput)
}

func openJKS(n *NewKey) (crypto.Signer, []*x509.Certificate, error) {
	if !soundJKS(n.Material.Bytes()) {
		return nil, nil, fmt.Errorf("the JKS key store is damaged: %w", ErrInput)
	}
	ks := keystore.New()
	if err := ks.Load(bytes.NewReader(n.Material.Bytes()), n.StorePassword.Bytes()); err != nil {
		return nil, nil, fmt.Errorf("opening the JKS key store: wrong password or damaged file: %w", ErrInput)
	}
	var keys []string
	for _, a := range ks.Aliases() {
		if ks.IsPrivateKeyEntry(a) {
			keys = append(keys, a)
		}
	}
	alias, err := choose(strings.ToLower(n.Alias), keys)
	if err != nil {
		return nil, nil, err
	}
	password := n.KeyPassword
	if password.IsZero() {
		password = n.StorePassword
	}
	e, err := ks.GetPrivateKeyEntry(alias, password.Bytes())
	if err != nil {
		return nil, nil, fmt.Errorf("the key %q cannot be recovered: wrong key password: %w", alias, ErrInput)
	}
	defer clear(e.PrivateKey)
	key, err := privateKeyOf(e.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	var certs []*x509.Certificate
	for _, c := range e.CertificateChain {
		parsed, err := x509.ParseCertificate(c.Content)
		if err != nil {
			return nil, nil, fmt.Errorf("a certificate of %q cannot be decoded: %w", alias, ErrInput)
		}
		certs = append(certs, parsed)
	}
	chain, err := chainOf(key, certs)
	return key, chain, err
}

// choose finds the alias among those of private keys.
func choose(alias string, keys []string) (string, error) {
	slices.Sort(keys)
	switch {
	case alias != "" && slices.Contains(keys, alias):
		return alias, nil
	case alias != "":
		return "", fmt.Errorf("alias %q does not exist; the private keys are %q: %w", alias, keys, ErrInput)
	case len(keys) == 1:
		return keys[0], nil
	}
	return "", fmt.Errorf("the alias is needed; the private keys are %q: %w", keys, ErrInput)
}

// openPKCS12 reads every entry, because the file may hold several keys.
func openPKCS12(n *NewKey) (crypto.Signer, []*x509.Certificate, error) {
	if costly(n.Material.Bytes(), maxDepth) {
		return nil, nil, fmt.Errorf("the PKCS #12 key store wants its password hashed many millions of times: %w", ErrInput)
	}
	//lint:ignore SA1019 the other decoders take files with exactly one key, and do not tell its alias
	blocks, err := pkcs12.ToPEM(n.Material.Bytes(), string(n.StorePassword.Bytes()))
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, nil, fmt.Errorf("opening the PKCS #12 key store: wrong password: %w", ErrInput)
	}
	if err != nil {
		return openOnly(n)
	}
	keys := map[string]*pem.Block{}
	var names []string
	var certs []*x509.Certificate
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			defer clear(b.Bytes)
			alias := aliasOf(b, len(names)+1)
			keys[alias] = b
			names = append(names, alias)
			continue
		}
		if c, err := x509.ParseCertificate(b.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
	alias, err := choose(strings.ToLower(n.Alias), names)
	if err != nil {
		return nil, nil, err
	}
	key, err := privateKeyOf(keys[alias].Bytes)
	if err != nil {
		return nil, nil, err
	}
	chain, err := chainOf(key, certs)
	return key, chain, err
}

// openOnly takes the key of a PKCS #12 file that has one: those of Ed25519 are not
// taken entry by entry. Its alias is not looked at.
func openOnly(n *NewKey) (crypto.Signer, []*x509.Certificate, error) {
	k, leaf, issuers, err := pkcs12.DecodeChain(n.Material.Bytes(), string(n.StorePassword.Bytes()))
	key, ok := k.(crypto.Signer)
	if err != nil || !ok {
		return nil, nil, fmt.Errorf("the PKCS #12 key store cannot be decoded, or has several keys of which one is Ed25519: %w", ErrInput)
	}
	chain, err := chainOf(key, append([]*x509.Certificate{leaf}, issuers...))
	return key, chain, err
}

// aliasOf is the friendly name of an entry, or its number where it has none.
func aliasOf(b *pem.Block, number int) string {
	if name := b.Headers["friendlyName"]; name != "" {
		return strings.ToLower(name)
	}
	if id := b.Headers["localKeyId"]; id != "" {
		return hex.EncodeToString([]byte(id))
	}
	return fmt.Sprint(number)
}

// chainOf puts the certificate of the key first and its issuers behind it; none
// where the store has none for it.
func chainOf(key crypto.Signer, certs []*x509.Certificate) ([]*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("the key's public half cannot be encoded: %w", ErrInput)
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubjectPublicKeyInfo, spki) })
	if i < 0 {
		return nil, nil
	}
	chain := []*x509.Certificate{certs[i]}
	for len(chain) < maxChain {
		last := chain[len(chain)-1]
		next := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
			return !slices.Contains(chain, c) && last.CheckSignatureFrom(c) == nil
		})
		if next < 0 {
			break
		}
		chain = append(chain, certs[next])
	}
	return chain, nil
}
