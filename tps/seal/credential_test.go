package seal_test

import (
	"errors"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/seal"
)

func credential(t *testing.T, name, content string) *seal.CredentialKey {
	t.Helper()
	k, err := seal.NewCredentialKey(name, secret.New([]byte(content)))
	must(t, err)
	return k
}

// TestCredential: a credential is a key slot of kind 04 beside the HSM's, and another
// secret of that name opens nothing.
func TestCredential(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	key := credential(t, "inkan-seal", strings.Repeat("k", 32))
	save(t, b.sealer(func(c *seal.Config) { c.Slots = append(c.Slots, seal.Under(key)) }), "one")
	only := func(k *seal.CredentialKey) *seal.Sealer {
		return b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{seal.With(k)} })
	}
	s := only(credential(t, "inkan-seal", strings.Repeat("k", 32)))
	wants(t, s, "one")
	wants(t, b.sealer(), "one")
	f, err := s.Inspect(role)
	must(t, err)
	if got := f.Slots[1]; got.Kind != seal.KindCredential || got.String() != "2 system credential inkan-seal" {
		t.Errorf("slot %v of kind %02X", got, uint8(got.Kind))
	}
	refused(t, only(credential(t, "inkan-seal", strings.Repeat("l", 32))), seal.WrongKey)
	refused(t, only(credential(t, "another", strings.Repeat("k", 32))), seal.KeyMissing)
	must(t, seal.Probe(t.Context(), key))
}

func TestCredentialRefusals(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"inkan-seal": strings.Repeat("k", 31), "..": strings.Repeat("k", 32), "a/b": strings.Repeat("k", 32), "": strings.Repeat("k", 32)} {
		if _, err := seal.NewCredentialKey(name, secret.New([]byte(content))); err == nil {
			t.Errorf("%q with %d bytes is a key", name, len(content))
		}
	}
	k := credential(t, "inkan-seal", strings.Repeat("k", 32))
	if _, err := k.Key(t.Context(), "another", nil); !errors.Is(err, seal.KeyMissing) {
		t.Errorf("%v", err)
	}
	for _, w := range []seal.Wrapped{{}, {Mechanism: seal.MechanismGCM}, {Mechanism: seal.MechanismGCM, Nonce: make([]byte, 12), Data: make([]byte, 48)}} {
		if _, err := k.Unwrap(t.Context(), w, nil); err == nil {
			t.Errorf("unwrapped %+v", w)
		}
	}
}
