//go:build unix

package server_test

import (
	"testing"

	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
)

// TestBound: only the cards of a diversified key set have keys of their own, wherever
// it comes from.
func TestBound(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	for set, code := range map[tks.KeySetName]kdf.Code{"batch": kdf.None, "maker": kdf.VISA2} {
		value := secret.Random(16)
		kcv, err := kdf.KCV(kdf.DES, value.Bytes())
		must(t, err)
		_, err = n.Keys.Import(t.Context(), local.NewKeySet{Name: set, Version: 1, Type: hsm.DES2, KDF: code}, local.Imported{Value: value, KCV: kcv})
		must(t, err)
	}
	for set, want := range map[tks.KeySetName]bool{"batch": false, "maker": true, "site": true, "factory": false, "unknown": false} {
		if got := n.IsBound(set); got != want {
			t.Errorf("%s: %v, want %v", set, got, want)
		}
	}
}
