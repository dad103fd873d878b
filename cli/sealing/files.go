package sealing

import (
	"fmt"
	"os"
	"path/filepath"

	"inkan/apdu/durable"
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

// WriteFile replaces a file whole and durably. It makes its folder if need be.
func WriteFile(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return durable.ReplaceFile(path, b, mode)
}
