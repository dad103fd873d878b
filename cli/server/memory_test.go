package server_test

import (
	"os"
	"testing"

	"inkan/apdu/memtest"
	"inkan/tks/hsm/softkey/softkeytest"
)

// TestMain also serves the processes that tests kill, which open the key files of others.
func TestMain(m *testing.M) {
	softkeytest.Cheap()
	os.Exit(memtest.Run(m))
}
