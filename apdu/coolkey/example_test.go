package coolkey_test

import (
	"context"
	"fmt"

	"inkan/apdu/coolkey"
)

// Reading a token's status from a card, here one that answers from a list.
func Example() {
	card := &script{answers: []string{"9000", "01010104 00001388 0000101E 01 04 0000 9000"}}
	ctx := context.Background()
	if err := coolkey.Select(ctx, card); err != nil {
		fmt.Println(err)
		return
	}
	status, err := coolkey.ReadStatus(ctx, card)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d of %d bytes free, %d keys\n", status.HeapFree, status.HeapTotal, status.Keys)
	// Output: 4126 of 5000 bytes free, 4 keys
}
