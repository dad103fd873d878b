package piv_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
)

//go:embed testdata/keys.pem
var keysPEM []byte

// fixedKeys are one RSA key of each size: making one takes long.
var fixedKeys = sync.OnceValue(func() map[int]*rsa.PrivateKey {
	keys := map[int]*rsa.PrivateKey{}
	for block, rest := pem.Decode(keysPEM); block != nil; block, rest = pem.Decode(rest) {
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			panic(err)
		}
		keys[k.(*rsa.PrivateKey).N.BitLen()] = k.(*rsa.PrivateKey)
	}
	return keys
})

func keyPool() *sim.KeyPool {
	var all []*rsa.PrivateKey
	for _, k := range fixedKeys() {
		all = append(all, k)
	}
	return sim.NewKeyPool(all...)
}

// card is a software card with PIV selected.
type card struct {
	*apdu.Conn
	sim *sim.Card
	t   testing.TB
}

const serial = 0xF0000001

func newCard(t testing.TB, model string) *card {
	t.Helper()
	return insert(t, sim.Config{Model: model, Serial: serial})
}

func insert(t testing.TB, cfg sim.Config) *card {
	t.Helper()
	cfg.Keys = keyPool()
	s, err := sim.New(cfg)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	c := &card{Conn: apdu.NewConn(s), sim: s, t: t}
	c.selected()
	return c
}

func (c *card) selected() {
	c.t.Helper()
	_, err := piv.Select(c.ctx(), c)
	check(c.t, err)
}

func (c *card) ctx() context.Context { return c.t.Context() }

// want sends a command in hexadecimal and compares data and status; "…" at the end
// of the data stands for more of it.
func (c *card) want(command, answer string) {
	c.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	check(c.t, err)
	out, err := c.sim.Transmit(c.ctx(), b)
	check(c.t, err)
	got := strings.ToUpper(hex.EncodeToString(out))
	answer = strings.ToUpper(strings.ReplaceAll(answer, " ", ""))
	if head, tail, cut := strings.Cut(answer, "…"); cut && strings.HasPrefix(got, head) && strings.HasSuffix(got, tail) {
		return
	}
	if got != answer {
		c.t.Errorf("%s → %s, want %s", command, got, answer)
	}
}

// manage proves the factory's management key.
func (c *card) manage() {
	c.t.Helper()
	check(c.t, piv.Authenticate(c.ctx(), c, c.algorithm(), factoryKey()))
}

func (c *card) algorithm() piv.Algorithm {
	c.t.Helper()
	m, err := piv.ReadMetadata(c.ctx(), c, piv.Management)
	check(c.t, err)
	return m.Algorithm
}

func factoryKey() secret.Secret { return secret.New(piv.DefaultManagementKey()) }

func (c *card) login() {
	c.t.Helper()
	check(c.t, piv.VerifyPIN(c.ctx(), c, pinOf(c.t, piv.DefaultPIN)))
}

func (c *card) generate(slot piv.Slot, alg piv.Algorithm, p piv.Policy) crypto.PublicKey {
	c.t.Helper()
	pub, err := piv.Generate(c.ctx(), c, slot, alg, p)
	check(c.t, err)
	return pub
}

func pinOf(t testing.TB, s string) secret.PIN {
	t.Helper()
	p, err := secret.NewPIN([]byte(s))
	check(t, err)
	return p
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused wants a status word.
func refused(t testing.TB, what string, err error, want apdu.StatusWord) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %X, want %X", what, got, want)
	}
}

// doer is a function as an apdu.Doer.
type doer func(context.Context, apdu.Command) (apdu.Response, error)

func (f doer) Do(ctx context.Context, c apdu.Command) (apdu.Response, error) { return f(ctx, c) }
