package piv_test

import (
	"fmt"
	"time"

	"inkan/apdu/piv"
)

func Example() {
	guid := [16]byte{0xAB, 0xCD}
	content := piv.NewCHUID(guid, time.Date(2031, 5, 6, 0, 0, 0, 0, time.UTC)).Encode()
	chuid, err := piv.ParseCHUID(content)
	fmt.Printf("%X %s %v\n", chuid.GUID[:2], chuid.Expiry, err)
	fmt.Println(piv.Signature, piv.Signature.Purpose(), piv.Signature.Certificate())
	// Output:
	// ABCD 20310506 <nil>
	// 9C signature 5FC10A
}
