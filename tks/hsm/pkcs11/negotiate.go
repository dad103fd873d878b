//go:build cgo && !windows

package pkcs11

import (
	"bytes"
	"errors"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// operation is something that the key service needs of a token.
type operation string

const (
	opImport  operation = "hold %v keys of known value"
	opEncrypt operation = "encrypt with %v"
	opCMAC    operation = "compute AES-CMAC"
	opDerive  operation = "derive %v card keys"
	opWrap    operation = "wrap %v card keys for PUT KEY"

	opDeriveAES operation = "derive AES card keys from a 3DES master key"
	opSession   operation = "derive SCP02 session keys"
)

func (o operation) with(c kdf.Cipher) operation {
	return operation(strings.Replace(string(o), "%v", c.String(), 1))
}

// way is how a token does an operation. Zero: not at all.
type way uint8

const (
	inside way = iota + 1 // keys stay objects
	byCBC                 // CMAC out of CBC; keys stay objects
	memory                // the value of a card key passes through memory
)

// strategies are the ways in force for one connection, and what was tried.
type strategies struct {
	ways  map[operation]way
	tried map[operation][]hsm.Candidate
	in    *intake
}

// option is one way to do an operation, and its trial with published keys.
type option struct {
	way  way
	mech uint
	try  func() error
}

var errWrong = errors.New("gives a wrong answer")

// Known answers of hsm.md §21 with K = 40…4F and D.
var (
	katKey  = []byte("@ABCDEFGHIJKLMNO")
	katData = []byte{0x0A, 0x0B, 0x47, 0x47, 0x46, 0x47, 0x00, 0xF0, 0x01, 0x0A, 0x0B, 0x47, 0x47, 0xF0, 0x0F, 0x01}
)

// negotiate tries every operation with published keys: what a token lists says
// little (hsm.md §7). All objects end with the session.
func negotiate(m *p11.Ctx, h p11.SessionHandle) (strategies, error) {
	s := strategies{ways: map[operation]way{}, tried: map[operation][]hsm.Candidate{}, in: &intake{by: map[kdf.Cipher]uint{}}}
	r := raw{m, h, s.in}
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES} {
		t, err := hsm.KeyTypeOf(c, len(katKey))
		if err != nil {
			return s, err
		}
		k, ok := s.negotiateImport(r, t, katKey, wrapable)
		if !ok {
			continue
		}
		s.negotiateCipher(r, t, k)
		if err := r.c.DestroyObject(r.h, k); err != nil {
			return s, err
		}
	}
	return s, s.negotiateHMAC(r)
}

// negotiateHMAC tries a key of Dogtag's SP 800-108 diversification: the token
// computes the HMAC, the card key passes through memory (hsm.md §8.3).
func (s strategies) negotiateHMAC(r raw) error {
	padded := append(append([]byte(nil), katKey...), make([]byte, 16)...)
	k, ok := s.negotiateImport(r, hsm.HMACKey, padded, hidden)
	if !ok {
		return nil
	}
	s.choose(opDerive.with(kdf.HMAC), option{memory, p11.CKM_SHA256_HMAC, func() error {
		got, err := r.hmac(k, katData)
		return same(got, err, kdf.Derivation{Method: kdf.HMACSHA256, Input: katData, Cipher: kdf.AES, Length: 32}, kdf.HMAC)
	}})
	return r.c.DestroyObject(r.h, k)
}

func (s strategies) negotiateCipher(r raw, t hsm.KeyType, k p11.ObjectHandle) {
	c := t.Cipher()
	m, _ := cbc(c)
	s.choose(opEncrypt.with(c), option{inside, m, func() error {
		got, err := r.encrypt(c, k, katData)
		return same(got, err, kdf.Derivation{Method: kdf.CBC, Input: katData, Cipher: kdf.AES, Length: 16}, c)
	}})
	s.choose(opWrap.with(c), option{inside, wrapMech(c), func() error { return tryWrap(r, t, k) }},
		option{memory, m, func() error { return s.need(opEncrypt.with(c)) }})
	if c == kdf.AES {
		s.choose(opCMAC, option{inside, p11.CKM_AES_CMAC, func() error {
			got, err := r.sign(p11.CKM_AES_CMAC, nil, k, katData)
			return same(got, err, kdf.Derivation{Method: kdf.CMAC, Input: katData, Cipher: kdf.AES, Length: 16}, c)
		}}, option{byCBC, p11.CKM_AES_CBC, func() error {
			got, err := r.cmacByCBC(k, katData)
			return same(got, err, kdf.Derivation{Method: kdf.CMAC, Input: katData, Cipher: kdf.AES, Length: 16}, c)
		}})
	}
	s.choose(opDerive.with(c), option{inside, ecbData(c), func() error { return tryDerive(r, t, k) }},
		option{memory, m, func() error { return s.need(opEncrypt.with(c)) }})
	if c == kdf.DES {
		s.choose(opDeriveAES, option{inside, ecbData(c), func() error { return tryDeriveAs(r, hsm.AES128, ecbDerivation, k) }},
			option{memory, m, func() error { return s.need(opEncrypt.with(c)) }})
		s.choose(opSession, option{inside, p11.CKM_DES3_CBC_ENCRYPT_DATA, func() error { return tryDeriveAs(r, hsm.DES2, cbcDerivation, k) }},
			option{memory, m, func() error { return s.need(opEncrypt.with(c)) }})
	}
}

// choose takes the first option that works and keeps what became of the others.
func (s strategies) choose(o operation, options ...option) {
	for _, op := range options {
		err := op.try()
		s.tried[o] = append(s.tried[o], candidate(op.mech, err))
		if err == nil {
			s.ways[o] = op.way
			return
		}
	}
}

func (s strategies) need(o operation) error {
	if s.ways[o] == 0 {
		return errors.New("does not work either")
	}
	return nil
}

func wrapMech(c kdf.Cipher) uint {
	if c == kdf.DES {
		return p11.CKM_DES3_ECB
	}
	return p11.CKM_AES_CBC
}

// same compares with what memory makes of the known key.
func same(got []byte, err error, d kdf.Derivation, c kdf.Cipher) error {
	if err != nil {
		return err
	}
	want, err := d.Apply(c, katKey)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errWrong
	}
	return nil
}

// tryWrap wraps K under itself: K encrypted under K in the mode of PUT KEY.
func tryWrap(r raw, t hsm.KeyType, k p11.ObjectHandle) error {
	got, err := r.wrap(t.Cipher(), k, k, t)
	if t.Cipher() == kdf.AES {
		return same(got, err, kdf.Derivation{Method: kdf.CBC, Input: katKey, Cipher: kdf.AES, Length: 16}, kdf.AES)
	}
	odd := bytes.Clone(katKey) // some tokens set the parity of what they are given
	kdf.OddParity(odd)
	if err := same(got, err, kdf.Derivation{Method: kdf.ECB, Input: odd, Cipher: kdf.AES, Length: 16}, kdf.DES); err == nil {
		return nil
	}
	return same(got, err, kdf.Derivation{Method: kdf.ECB, Input: katKey, Cipher: kdf.AES, Length: 16}, kdf.DES)
}

// tryDerive derives a readable key and readable bytes.
func tryDerive(r raw, t hsm.KeyType, k p11.ObjectHandle) error {
	o, err := r.derive(ecbData(t.Cipher()), nil, katData, k, t, readable)
	if err != nil {
		return err
	}
	got, err := r.key(o, t)
	if err := same(got, err, kdf.Derivation{Method: kdf.ECB, Input: katData, Cipher: t.Cipher(), Length: 16}, t.Cipher()); err != nil {
		return err
	}
	if err := r.c.DestroyObject(r.h, o); err != nil {
		return err
	}
	got, err = r.bytes(t.Cipher(), k, katData)
	return same(got, err, kdf.Derivation{Method: kdf.ECB, Input: katData, Cipher: kdf.AES, Length: 16}, t.Cipher())
}

// dataDerivation is a way of deriving from a 3DES key by what it encrypts.
type dataDerivation struct {
	mech   uint
	iv     []byte
	method kdf.Method
}

var (
	ecbDerivation = dataDerivation{mech: p11.CKM_DES3_ECB_ENCRYPT_DATA, method: kdf.ECB}
	cbcDerivation = dataDerivation{mech: p11.CKM_DES3_CBC_ENCRYPT_DATA, iv: make([]byte, 8), method: kdf.CBC}
)

// tryDeriveAs derives a readable key of 16 bytes from a 3DES key.
func tryDeriveAs(r raw, t hsm.KeyType, d dataDerivation, k p11.ObjectHandle) error {
	o, err := r.derive(d.mech, d.iv, katData, k, t, readable)
	if err != nil {
		return err
	}
	got, err := r.key(o, t)
	if err := same(got, err, kdf.Derivation{Method: d.method, Input: katData, Cipher: t.Cipher(), Length: 16}, kdf.DES); err != nil {
		return err
	}
	return r.c.DestroyObject(r.h, o)
}

// report says in words what is in force.
func (s strategies) report() map[string]string {
	out := map[string]string{}
	for o, tried := range s.tried {
		last := tried[len(tried)-1]
		switch s.ways[o] {
		case 0:
			out[string(o)] = (&hsm.MechanismError{Token: "it", Operation: string(o), Candidates: tried}).Error()
		case memory:
			out[string(o)] = last.Name + ", in memory"
			if len(tried) > 1 {
				out[string(o)] += ": " + tried[0].String()
			}
		default:
			out[string(o)] = last.Name
		}
	}
	return out
}
