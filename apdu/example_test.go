package apdu_test

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
)

// A card that names the right length (6Cxx), hands its answer out in parts (61xx)
// and does not know the second command.
func ExampleConn() {
	answers := map[string]string{
		"80CA9F7F00": "\x6C\x03",
		"80CA9F7F03": "\x01\x02\x61\x01",
		"00C0000001": "\x03\x90\x00",
	}
	card := cardFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
		if a, ok := answers[fmt.Sprintf("%X", cmd)]; ok {
			return []byte(a), nil
		}
		return []byte("\x6D\x00"), nil
	})
	conn := apdu.NewConn(card)

	data, err := apdu.Run(context.Background(), conn, apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: apdu.MaxShortNe})
	fmt.Printf("%X %v\n", data, err)

	_, err = apdu.Run(context.Background(), conn, apdu.Command{CLA: 0x80, INS: 0x99})
	fmt.Println(err, errors.Is(err, apdu.SWInsNotSupported))
	// Output:
	// 010203 <nil>
	// command 80990000: status 6D00 (instruction not supported) true
}
