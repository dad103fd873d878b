package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/local"
)

// Example makes a key file, a key service over it, and the site's first master key.
func Example() {
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: site version 02: aes-256, kdf3, level D
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "inkan")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cheap := softkey.FloorParams() // for the example; nil is right
	store, err := softkey.Create(filepath.Join(dir, "keys", "keystore"), secret.New([]byte("passphrase")), &cheap)
	if err != nil {
		return err
	}
	defer store.Close()
	ledger, err := local.OpenLedger(filepath.Join(dir, "tks", "ledger"))
	if err != nil {
		return err
	}
	defer ledger.Close()
	s, err := local.New(local.Config{Vault: store, Ledger: ledger})
	if err != nil {
		return err
	}
	k, err := s.CreateKeySet(ctx, "site", 0x02, hsm.AES256)
	if err != nil {
		return err
	}
	fmt.Printf("%s version %v: %v, %s, level %s\n", k.Name, k.Version, k.Type, k.KDF, k.Level)
	return nil
}
