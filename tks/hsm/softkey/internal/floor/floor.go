// Package floor tells softkey whether tests of other packages have lowered what the
// passphrase of a key file costs at least. It is a package of its own so that nothing
// but softkeytest can.
package floor

import "sync/atomic"

var lowered atomic.Bool

// Lower lets passphrases cost next to nothing until the process ends.
func Lower() { lowered.Store(true) }

// Lowered reports whether Lower was called.
func Lowered() bool { return lowered.Load() }
