//go:build !cgo && !windows

package pcsc

import (
	"fmt"

	"inkan/apdu"
)

// newSystem is the absence of PC/SC in a build without cgo.
func newSystem() system { return noSystem{} }

type noSystem struct{}

func (noSystem) establish() (session, error) {
	return nil, fmt.Errorf("%w: this program was built without cgo and reaches no card reader; "+
		"use the full build (make build, with a C compiler and, on Linux, the PC/SC headers: libpcsclite-dev)", apdu.ErrUnsupported)
}
