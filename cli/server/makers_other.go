//go:build !cgo && !windows

package server

import "inkan/tps/piv/attest"

// makers does not exist: piv-go, which has their roots, needs cgo here.
var makers attest.Chain
