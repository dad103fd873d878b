//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package sim

import (
	"fmt"
	"io"

	"inkan/apdu"
)

func lockFile(string) (io.Closer, error) {
	return nil, fmt.Errorf("locking a card image: %w on this system", apdu.ErrUnsupported)
}
