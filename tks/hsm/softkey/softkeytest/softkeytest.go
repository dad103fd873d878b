// Package softkeytest makes key files that open at once, for tests of what is above
// them: their passphrases took most of the time of those tests.
package softkeytest

import (
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/internal/floor"
)

// Cheap lets this process make and open key files whose passphrase costs next to
// nothing to try, and returns what they are made with. A process that has not called
// it, as the program, refuses them.
func Cheap() *softkey.Params {
	floor.Lower()
	return &softkey.Params{Time: 1, MemoryKiB: 8, Threads: 1}
}
