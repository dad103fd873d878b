package sim

import (
	"io"

	"inkan/apdu"
	"inkan/apdu/gp/loadfile"
	"inkan/sim/coolkey"
	"inkan/sim/gp"
	"inkan/sim/piv"
)

// applets gives loaded code its behaviour, by load file. A card may have both.
func applets(variant string, c piv.Config, r io.Reader) map[apdu.AID]gp.Factory {
	return map[apdu.AID]gp.Factory{
		loadfile.CoolKeyPackage: coolkey.Factory(coolkey.Config{Variant: coolkey.Variant(variant)}),
		loadfile.PIVPackage:     piv.Factory(c, r),
	}
}
