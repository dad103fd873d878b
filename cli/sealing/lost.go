package sealing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"inkan/apdu/durable"
	"inkan/cli/config"
	"inkan/tps/seal"
)

// ErrNothingAside means that a folder has no sealed configuration to set aside.
var ErrNothingAside = errors.New("the folder has no sealed configuration: there is nothing to set aside")

// SetAside takes the sealed configuration of a folder out of the way, without opening
// it: into a folder of its own, whose name it returns, for a key that turns up again.
// The records, keys, authority and audit log stay, and Create prepares the folder anew
// around them. No node may have the folder open. A cut call is finished by another.
func SetAside(ctx context.Context, folder string, o Options) (string, error) {
	o = o.Complete()
	lock, err := Lock(Within(folder, LockFile))
	if err != nil {
		return "", err
	}
	defer lock.Release()
	names, err := sealedNames(folder)
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", ErrNothingAside
	}
	if _, err := os.Stat(Within(folder, ConfigFile)); err == nil {
		return "", &seal.Error{Code: seal.PlaintextFound, Role: RoleConfig, Cause: errors.New("there is a plain configuration too"),
			Hint: "inkan config disable --to plain ends an interrupted change; or remove the plain file"}
	}
	aside := Within(folder, "lost-"+time.Now().UTC().Format("20060102T150405.000"))
	err = audited(ctx, folder, config.Default(), eventDestroy, map[string]string{"aside": filepath.Base(aside)}, func() error {
		if err := os.Mkdir(aside, 0o700); err != nil {
			return err
		}
		for _, name := range names { // seal.toml last: until then the folder is sealed
			o.Step("", "aside")
			if err := os.Rename(Within(folder, name), filepath.Join(aside, name)); err != nil {
				return fmt.Errorf("setting %s aside: %w", name, err)
			}
		}
		return errors.Join(durable.SyncDir(aside), durable.SyncDir(folder))
	})
	return aside, err
}

// sealedNames are the files of a sealed configuration, seal.toml last.
func sealedNames(folder string) (out []string, err error) {
	roles, err := seal.Roles(folder)
	if err != nil {
		return nil, err
	}
	for _, r := range roles {
		out = append(out, r.File(), r.Prev())
	}
	var there []string
	for _, name := range append(out, seal.AnchorName, BackupsFile, seal.BootstrapFile) {
		if _, err := os.Lstat(Within(folder, name)); err == nil {
			there = append(there, name)
		}
	}
	return there, nil
}
