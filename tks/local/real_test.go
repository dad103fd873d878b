package local_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"inkan/tks"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/local"
	"inkan/tks/tkstest"
)

func openHSM(t *testing.T, soft hsmtest.SoftToken, recycle int64) *pkcs11.Token {
	t.Helper()
	u, err := pkcs11.ParseURI(soft.URI)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, RecycleAfter: recycle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func TestServiceOnHSM(t *testing.T) {
	tok := openHSM(t, hsmtest.SoftHSM(t), 0)
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, tok) })
}

// TestServiceOnRestartingHSM: the module is restarted every hundred objects, and
// no caller notices.
func TestServiceOnRestartingHSM(t *testing.T) {
	tok := openHSM(t, hsmtest.SoftHSM(t), 100)
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, tok) })
}

// TestServiceOnReducedHSM: without derivation inside, card keys pass through memory.
func TestServiceOnReducedHSM(t *testing.T) {
	tok := openHSM(t, hsmtest.SoftHSM(t, "CKM_AES_ECB_ENCRYPT_DATA", "CKM_DES3_ECB_ENCRYPT_DATA", "CKM_DES3_CBC_ENCRYPT_DATA"), 0)
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, tok) })
	if _, err := local.New(local.Config{Vault: tok, Ledger: newLedger(t), MinimumProtection: 'B'}); err == nil {
		t.Error("started at level C where B was asked for")
	}
}

// TestImportOnHSM: every diversification and undiversified keys, on a whole token and
// on one without derivation inside.
func TestImportOnHSM(t *testing.T) {
	for name, disabled := range map[string][]string{
		"whole": nil, "reduced": {"CKM_AES_ECB_ENCRYPT_DATA", "CKM_DES3_ECB_ENCRYPT_DATA", "CKM_DES3_CBC_ENCRYPT_DATA"},
	} {
		t.Run("token="+name, func(t *testing.T) {
			s := newService(t, local.Config{Vault: openHSM(t, hsmtest.SoftHSM(t, disabled...), 0)})
			importEveryDiversification(t, s)
			importThreeKeys(t, s)
		})
	}
}

// TestHSMPulled: a request fails as unavailable while the token is away.
func TestHSMPulled(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	s := newService(t, local.Config{Vault: openHSM(t, soft, 0)})
	if _, err := s.CreateKeySet(t.Context(), "site", 2, 1); err != nil {
		t.Fatal(err)
	}
	c := tkstest.NewCard(3, 0x70)
	c.Changeover(t, s, "site", 2)
	c.Check(t, s)
	if err := os.Rename(soft.Tokens, soft.Tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(soft.Tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: c.Proof(t)})
	if !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if err := errors.Join(os.Remove(soft.Tokens), os.Rename(soft.Tokens+".away", soft.Tokens)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: c.Proof(t)})
		if err == nil {
			break
		}
		if !errors.Is(err, tks.ErrUnavailable) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	c.Check(t, s)
}
