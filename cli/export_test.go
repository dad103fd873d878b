package cli

import (
	"io"

	"inkan/tks/hsm/softkey/softkeytest"
)

// MainQuick is Main, but that it makes and opens the key files of softkeytest.
func MainQuick(args []string, in io.Reader, out, err io.Writer) int {
	return (&program{in: in, out: out, err: err, keyCost: softkeytest.Cheap()}).main(args)
}
