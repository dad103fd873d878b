package pcsc_test

import (
	"context"
	"fmt"

	"inkan/pcsc"
)

// Wait for a card, own it, and select its default application.
func Example() {
	ctx := context.Background()
	service, err := pcsc.Open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Close()
	for event, err := range service.Watch(ctx) {
		if err != nil || event.Kind != pcsc.CardInserted {
			fmt.Println(event.Kind, event.Reader, err)
			continue
		}
		card, err := service.Connect(ctx, event.Reader)
		if err != nil {
			fmt.Println(err)
			continue
		}
		response, err := card.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x00, 0x00})
		fmt.Printf("%s: %X %v\n", card.ATR(), response, err)
		card.Close()
		return
	}
}
