//go:build !cgo || windows

package pkcs11_test

import (
	"errors"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tks/hsm/pkcs11"
)

// TestOpenSaysWhichBuild: a build without cgo names the one that has PKCS #11.
func TestOpenSaysWhichBuild(t *testing.T) {
	t.Parallel()
	_, err := pkcs11.Open(t.Context(), pkcs11.Config{})
	if !errors.Is(err, apdu.ErrUnsupported) || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Error(err)
	}
}
