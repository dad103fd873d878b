package sealing

import (
	"fmt"
	"os"
	"path/filepath"
)

// Names in a data folder (design.md §6) of what is needed to open it.
const (
	ConfigFile     = "inkan.toml"
	KeyFile        = "keys/keystore"
	PassphraseFile = "passphrase"
	LockFile       = "lock"
	ServerKeyFile  = "ca/server.key"
	PeerKeyFile    = "peer/peer.key" // of the node's certificate in its array
	PeerCAFile     = "peer/ca.key"   // of the array's CA, on a node without HSM and key file
)

// Within resolves a name in a folder; an absolute one stays.
func Within(folder, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, filepath.FromSlash(name))
}

// WriteFile replaces a file whole: a new file, flushed, renamed, folder flushed.
func WriteFile(path string, b []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncFolder(dir)
}
