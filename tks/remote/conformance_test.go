package remote_test

import (
	"testing"

	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/remote"
	"inkan/tks/remote/remotetest"
	"inkan/tks/tkstest"
)

func TestServiceOverKeyFile(t *testing.T) {
	t.Parallel()
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, newStore(t)) })
}

// softHSM is a token of SoftHSM; the test is skipped where there is none to be.
func softHSM(t *testing.T) *pkcs11.Token {
	t.Helper()
	u, err := pkcs11.ParseURI(hsmtest.SoftHSM(t).URI)
	must(t, err)
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	must(t, err)
	t.Cleanup(func() { tok.Close() })
	return tok
}

func TestServiceOverHSM(t *testing.T) {
	tok := softHSM(t)
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, tok) })
}

// vault is what a node with keys has.
type vault interface {
	hsm.Vault
	hsm.Signers
}

// remoteSigners are the key pairs of a node that serves v's.
func remoteSigners(t *testing.T, v vault, grant remote.Grant) *remote.Signers {
	a := remotetest.NewArray(t)
	server := a.Serve("tks1", newHandler(t, remote.HandlerConfig{Service: nothing{}, Signers: v, Identify: granting(grant)}))
	return newClient(t, remote.Config{}, remote.Node{Name: "tks1", URL: server.URL, Client: a.Client("tps1")}).Signers()
}

func realmLabel(n uint8) hsm.SignerLabel {
	return hsm.SignerLabel("tms:sign:suite:v" + string("0123456789abcdef"[n>>4]) + string("0123456789abcdef"[n&15]))
}

func TestSignersOverKeyFile(t *testing.T) {
	t.Parallel()
	hsmtest.TestSigners(t, remoteSigners(t, newStore(t), everything()), realmLabel)
}

func TestSignersOverHSM(t *testing.T) {
	hsmtest.TestSigners(t, remoteSigners(t, softHSM(t), everything()), realmLabel)
}
