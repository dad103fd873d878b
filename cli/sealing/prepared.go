package sealing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"inkan/apdu/durable"
	"inkan/tps/seal"
)

// PhaseOf says whether the sealed files of a folder count. A folder without
// seal.toml and without sealed files is plain: no error, no phase.
func PhaseOf(folder string) (seal.Bootstrap, error) {
	b, err := seal.LoadBootstrap(folder)
	if errors.Is(err, fs.ErrNotExist) && seal.CodeOf(err) == "" {
		return seal.Bootstrap{}, nil
	}
	return b, err
}

// ErrNotPrepared means that the folder is not a data folder yet.
var ErrNotPrepared = errors.New("the data folder is not prepared: run inkan init first")

// Prepared reports a folder that is none yet; else what seal.toml says, if it is
// there.
func Prepared(folder string) (seal.Bootstrap, error) {
	boot, err := PhaseOf(folder)
	if err != nil || boot.Phase == seal.Sealed {
		return boot, err
	}
	if _, err := os.Stat(Within(folder, ConfigFile)); errors.Is(err, os.ErrNotExist) {
		return boot, fmt.Errorf("%s: %w", folder, ErrNotPrepared)
	}
	return boot, nil
}

// LockPrepared takes the lock of a folder, and reads its seal.toml when nobody changes
// it any more.
func LockPrepared(folder string) (seal.Bootstrap, *durable.Lock, error) {
	boot, err := Prepared(folder)
	if err != nil {
		return boot, nil, err
	}
	lock, err := Lock(Within(folder, LockFile))
	if err != nil {
		return boot, nil, err
	}
	if boot, err = Prepared(folder); err != nil {
		return boot, nil, errors.Join(err, lock.Release())
	}
	return boot, lock, nil
}
