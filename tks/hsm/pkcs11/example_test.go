package pkcs11_test

import (
	"fmt"

	"inkan/tks/hsm/pkcs11"
)

// Example reads the address of a token as a configuration holds it.
func Example() {
	u, err := pkcs11.ParseURI("pkcs11:token=inkan%20prod?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/inkan/pin")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Token, u.ModulePath, u.PINSource)
	// Output: inkan prod /usr/lib/softhsm/libsofthsm2.so /etc/inkan/pin
}
