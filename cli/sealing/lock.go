package sealing

import (
	"errors"
	"fmt"

	"inkan/apdu/durable"
)

// ErrInUse means that another process has the data folder open.
var ErrInUse = errors.New("another inkan process has this data folder open")

// Lock keeps other processes out of a data folder. It does not wait.
func Lock(path string) (*durable.Lock, error) {
	l, err := durable.LockFile(path)
	if errors.Is(err, durable.ErrInUse) {
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	return l, nil
}
