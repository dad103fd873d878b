package gp_test

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
)

// Which card is this?
func ExampleReadCPLC() {
	card := doerFunc(func(cmd apdu.Command) apdu.Response {
		if cmd.INS != 0xCA || cmd.P1 != 0x9F || cmd.P2 != 0x7F {
			return apdu.Response{SW: apdu.SWReferencedNotFound}
		}
		cplc := gp.CPLC{ICFabricator: 0x494E, ICType: 0x4B41, ICBatch: 1, ICSerial: 42}
		return apdu.Response{Data: cplc.Encode(), SW: apdu.SWSuccess}
	})
	cplc, err := gp.ReadCPLC(context.Background(), card)
	if err != nil {
		panic(err)
	}
	fmt.Println(cplc.CUID().Pretty(), "software card:", cplc.Simulated())
	// Output: 494E-4B41-0001-0000-002A software card: true
}
