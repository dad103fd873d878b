//go:build !cgo || windows

package pkcs11

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/tks/hsm"
)

// Token is an open token. This build cannot have one.
type Token struct{ token }

// token has the methods.
type token interface {
	hsm.Vault
	hsm.Signers
	hsm.Wrappers
	hsm.Counters
}

// Open fails: this build has no PKCS #11.
func Open(context.Context, Config) (*Token, error) {
	return nil, fmt.Errorf("opening HSM: %w", errBuild)
}

var errBuild = fmt.Errorf("this build of inkan cannot load PKCS #11 modules; the Linux build made with cgo (CGO_ENABLED=1) can: %w: %w", apdu.ErrUnsupported, hsm.ErrModule)

// Tokens fails: this build has no PKCS #11.
func Tokens(string, string) ([]TokenInfo, error) {
	return nil, fmt.Errorf("listing tokens: %w", errBuild)
}

// Close does nothing.
func (*Token) Close() error { return nil }

// Info describes nothing.
func (*Token) Info() Info { return Info{} }
