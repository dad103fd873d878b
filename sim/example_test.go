package sim_test

import (
	"context"
	"fmt"
	"log"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/sim"
)

// A card in memory is an apdu.Card like any other.
func Example() {
	card, err := sim.New(sim.Config{Model: "gp-scp03", Serial: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()
	ctx, conn := context.Background(), apdu.NewConn(card)
	fci, err := gp.Select(ctx, conn, apdu.AID{})
	if err != nil {
		log.Fatal(err)
	}
	cplc, err := gp.ReadCPLC(ctx, conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(fci.AID, cplc.CUID().Pretty())
	// Output: A000000003000000 494E-4B41-0000-0000-0001
}
