package coolkey_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/apdu/secret"
	"inkan/sim/coolkey"
	"inkan/sim/gp"
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
	LoadFile struct {
		Version ck.Version `json:"version"`
		Bytes   hexData    `json:"bytes"`
	} `json:"load_file"`
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

func (f factors) key() *rsa.PrivateKey {
	one := big.NewInt(1)
	p, q := new(big.Int).SetBytes(f.P), new(big.Int).SetBytes(f.Q)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: f.E},
		D:         new(big.Int).ModInverse(big.NewInt(int64(f.E)), phi),
		Primes:    []*big.Int{p, q},
	}
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

//go:embed testdata/keys.pem
var keysPEM []byte

// pool is a KeyMaker with fixed RSA keys; next goes first.
type pool struct{ next []*rsa.PrivateKey }

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

func (p *pool) RSA(bits int) (*rsa.PrivateKey, error) {
	if len(p.next) > 0 {
		k := p.next[0]
		p.next = p.next[1:]
		return k, nil
	}
	if k, ok := fixedKeys()[bits]; ok {
		return k, nil
	}
	return nil, fmt.Errorf("no key of %d bits", bits)
}

func (p *pool) EC(c elliptic.Curve) (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(c, rand.Reader)
}

// fakeCard is the smallest runtime an applet runs in, and a Doer: class 84 is
// taken for verified secure messaging when open.
type fakeCard struct {
	t       testing.TB
	applet  gp.Applet
	again   func() gp.Applet
	keys    pool
	dek     []byte // 16 bytes
	aes     bool
	open    bool
	level   int // of class 84
	life    byte
	touched bool
	log     []string

	committed []byte // what the last Commit saved
	commitErr error  // of Commit
}

func (f *fakeCard) Level() int {
	return f.level
}

func (f *fakeCard) Unwrap(b []byte) ([]byte, bool) {
	if !f.open || len(b) == 0 {
		return nil, false
	}
	out := make([]byte, len(b))
	if f.aes {
		if len(b)%16 != 0 {
			return nil, false
		}
		c, _ := aes.NewCipher(f.dek)
		cipher.NewCBCDecrypter(c, make([]byte, 16)).CryptBlocks(out, b)
		return out, true
	}
	if len(b)%8 != 0 {
		return nil, false
	}
	c, _ := des.NewTripleDESCipher(append(bytes.Clone(f.dek), f.dek[:8]...))
	for i := 0; i < len(b); i += 8 {
		c.Decrypt(out[i:], b[i:i+8])
	}
	return out, true
}

// wrap is the inverse of Unwrap, what a key service does.
func (f *fakeCard) wrap(b []byte) []byte {
	out := make([]byte, len(b))
	if f.aes {
		c, _ := aes.NewCipher(f.dek)
		cipher.NewCBCEncrypter(c, make([]byte, 16)).CryptBlocks(out, b)
		return out
	}
	c, _ := des.NewTripleDESCipher(append(bytes.Clone(f.dek), f.dek[:8]...))
	for i := 0; i < len(b); i += 8 {
		c.Encrypt(out[i:], b[i:i+8])
	}
	return out
}

func (f *fakeCard) Rand() io.Reader   { return rand.Reader }
func (f *fakeCard) Keys() gp.KeyMaker { return &f.keys }
func (f *fakeCard) AID() apdu.AID     { return ck.InstanceAID() }
func (f *fakeCard) LifeCycle() byte   { return f.life }
func (f *fakeCard) Touch()            { f.touched = true }
func (f *fakeCard) Commit() error {
	f.committed = f.save()
	return f.commitErr
}
func (f *fakeCard) SetLifeCycle(b byte) bool {
	f.life = b
	return true
}

// Do implements apdu.Doer.
func (f *fakeCard) Do(_ context.Context, c apdu.Command) (apdu.Response, error) {
	f.t.Helper()
	if c.CLA == 0 && c.INS == 0xA4 {
		f.applet.Deselect(f)
		return f.applet.Select(f), nil
	}
	f.level, f.touched = -1, false
	if c.CLA == 0x84 && f.open {
		f.level = 3
	}
	before := f.save()
	r := f.applet.Process(f, c)
	if after := f.save(); !f.touched && !bytes.Equal(before, after) {
		f.t.Errorf("command %02X %02X changed persistent state without Touch", c.CLA, c.INS)
	}
	if f.touched {
		f.reload()
	}
	if len(r.Data) > 255 || r.SW != apdu.SWSuccess && len(r.Data) > 0 {
		f.t.Errorf("command %02X %02X answers %d bytes with %v", c.CLA, c.INS, len(r.Data), r.SW)
	}
	f.log = append(f.log, fmt.Sprintf("%02X%02X", c.CLA, c.INS))
	return r, nil
}

func (f *fakeCard) save() []byte {
	f.t.Helper()
	b, err := f.applet.Save()
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// reload checks that what Save wrote is what Load makes.
func (f *fakeCard) reload() {
	f.t.Helper()
	b := f.save()
	other := f.again()
	if err := other.Load(b); err != nil {
		f.t.Fatalf("loading the saved state: %v", err)
	}
	if c, err := other.Save(); err != nil || !bytes.Equal(b, c) {
		f.t.Fatalf("state changes by saving and loading: %v", err)
	}
}

// send runs a command in hexadecimal and returns data and status in hexadecimal.
func (f *fakeCard) send(command string) string {
	f.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := apdu.ParseCommand(b)
	if err != nil {
		f.t.Fatalf("%s: %v", command, err)
	}
	r, _ := f.Do(f.t.Context(), c)
	return strings.ToUpper(hex.EncodeToString(r.Encode()))
}

// want runs a command and compares the whole answer.
func (f *fakeCard) want(command, answer string) {
	f.t.Helper()
	answer = strings.ToUpper(strings.ReplaceAll(answer, " ", ""))
	if got := f.send(command); got != answer {
		f.t.Errorf("%s → %s, want %s", command, got, answer)
	}
}

func newCard(t testing.TB, c coolkey.Config, params string) *fakeCard {
	t.Helper()
	c.PINDelay = -1
	b, err := hex.DecodeString(params)
	if err != nil {
		t.Fatal(err)
	}
	create := func() gp.Applet {
		a, err := coolkey.Factory(c)(ck.InstanceAID(), b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	return &fakeCard{
		t: t, applet: create(), again: create, life: 0x07, open: true,
		dek: []byte("0123456789abcdef"),
	}
}

func pinOf(t testing.TB, s string) secret.PIN {
	t.Helper()
	p, err := secret.NewPIN([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secretOf(b []byte) secret.Secret { return secret.New(bytes.Clone(b)) }

func pkcs8Of(t testing.TB, k any) secret.Secret {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(b)
}
