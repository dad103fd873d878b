package store_test

import (
	"os"
	"testing"

	"inkan/apdu/memtest"
)

func TestMain(m *testing.M) { os.Exit(memtest.Run(m)) }
