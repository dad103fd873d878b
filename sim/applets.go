package sim

import (
	"inkan/apdu"
	"inkan/sim/coolkey"
	"inkan/sim/gp"
)

// coolkeyPackage is the load file of the CoolKey applet.
var coolkeyPackage = apdu.MustAID("627601FF0000")

// applets gives loaded code its behaviour, by load file.
func applets(variant string) map[apdu.AID]gp.Factory {
	return map[apdu.AID]gp.Factory{
		coolkeyPackage: coolkey.Factory(coolkey.Config{Variant: coolkey.Variant(variant)}),
	}
}
