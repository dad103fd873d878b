package coolkey_test

import (
	"context"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
)

// vectors is fixtures/vectors/coolkey.json.
type vectors struct {
	Signing    factors `json:"signing"`
	Encryption factors `json:"encryption"`
	Z0         hexData `json:"z0"`
	Z0Zlib     hexData `json:"z0_zlib"`
	KeyResult  struct {
		Challenge hexData `json:"challenge"`
		IOBuffer  hexData `json:"io_buffer"`
	} `json:"key_result"`
	Signature struct {
		Message hexData `json:"message"`
		Value   hexData `json:"value"`
	} `json:"signature"`
	KWP []struct {
		KEK     hexData `json:"kek"`
		Key     hexData `json:"key"`
		Wrapped hexData `json:"wrapped"`
	} `json:"kwp"`
}

type hexData []byte

func (h *hexData) UnmarshalText(t []byte) (err error) {
	*h, err = hex.DecodeString(string(t))
	return err
}

type factors struct {
	P hexData `json:"p"`
	Q hexData `json:"q"`
	E int     `json:"e"`
}

func (f factors) public() *rsa.PublicKey {
	p, q := new(big.Int).SetBytes(f.P), new(big.Int).SetBytes(f.Q)
	return &rsa.PublicKey{N: p.Mul(p, q), E: f.E}
}

func (f factors) private() *rsa.PrivateKey {
	one := big.NewInt(1)
	p, q := new(big.Int).SetBytes(f.P), new(big.Int).SetBytes(f.Q)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: *f.public(), D: phi.ModInverse(big.NewInt(int64(f.E)), phi), Primes: []*big.Int{p, q}}
	k.Precompute()
	return k
}

var loadVectors = sync.OnceValues(func() (vectors, error) {
	var v vectors
	b, err := os.ReadFile("../../fixtures/vectors/coolkey.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
})

func getVectors(t testing.TB) vectors {
	t.Helper()
	v, err := loadVectors()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// script answers one command after the other and remembers what it was sent.
type script struct {
	answers []string // data and status
	sent    []string
	modes   []apdu.Mode
}

func (s *script) Do(_ context.Context, c apdu.Command) (apdu.Response, error) {
	return s.answer(c, 0)
}

func (s *script) answer(c apdu.Command, m apdu.Mode) (apdu.Response, error) {
	b, err := c.Encode()
	if err != nil {
		return apdu.Response{}, err
	}
	s.sent = append(s.sent, strings.ToUpper(hex.EncodeToString(b)))
	s.modes = append(s.modes, m)
	if len(s.answers) == 0 {
		return apdu.Response{}, apdu.ErrCardRemoved
	}
	a, err := hex.DecodeString(strings.ReplaceAll(s.answers[0], " ", ""))
	if err != nil {
		return apdu.Response{}, err
	}
	s.answers = s.answers[1:]
	return apdu.ParseResponse(a)
}

// batch is a script with the optional ability of a Doer.
type batch struct{ script }

func (b *batch) DoAll(_ context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	var rs []apdu.Response
	for _, e := range es {
		r, err := b.answer(e.Command, e.Mode)
		if err != nil {
			return rs, err
		}
		rs = append(rs, r)
		if r.SW != apdu.SWSuccess && e.Mode&apdu.Anyway == 0 {
			break
		}
	}
	return rs, nil
}

func pinOf(t testing.TB, s string) secret.PIN {
	t.Helper()
	p, err := secret.NewPIN([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
