//go:build cgo && unix

package vpcdtest

import (
	"testing"
	"time"

	pivgo "github.com/go-piv/piv-go/v2/piv"
)

// OpenWithPIVGo opens the card in a reader with the client of piv-go. It tries again for a
// minute, where pcscd has not managed to give the virtual card power.
func OpenWithPIVGo(t *testing.T, reader string) *pivgo.YubiKey {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		yk, err := pivgo.Open(reader)
		if err == nil {
			return yk
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
