package cli

import (
	"io"

	"inkan/tks/hsm/softkey"
)

// MainQuick is Main, but that the key files of init open quickly.
func MainQuick(args []string, in io.Reader, out, err io.Writer) int {
	cost := softkey.FloorParams()
	return (&program{in: in, out: out, err: err, keyCost: &cost}).main(args)
}
