//go:build cgo && !windows

package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// wrapWay is a way to wrap 32 bytes under an AES-256 key (hsm.md §18, seal.dek).
type wrapWay struct {
	mechanism uint32 // of hsm.WrappedKey
	mech      uint
	wraps     bool // by C_WrapKey, else by C_Encrypt
}

// ckmKeyWrapKWP is CKM_AES_KEY_WRAP_KWP of PKCS #11 3.0.
const ckmKeyWrapKWP = 0x210B

var wrapNames = map[uint]string{p11.CKM_AES_GCM: "CKM_AES_GCM", ckmKeyWrapKWP: "CKM_AES_KEY_WRAP_KWP",
	p11.CKM_AES_KEY_WRAP_PAD: "CKM_AES_KEY_WRAP_PAD", p11.CKM_AES_KEY_WRAP: "CKM_AES_KEY_WRAP"}

// wrapWays are in the order of preference.
var wrapWays = []*wrapWay{
	{hsm.WrapGCM, p11.CKM_AES_GCM, false},
	{hsm.WrapKWP, ckmKeyWrapKWP, true},
	{hsm.WrapKWP, p11.CKM_AES_KEY_WRAP_PAD, true},
	{hsm.WrapKW, p11.CKM_AES_KEY_WRAP, true},
}

// wrapWay is the first way that passes its known answers among those that all of
// the conditions permit.
func (c *conn) wrapWay(r raw, permit ...func(*wrapWay) bool) (*wrapWay, error) {
	var tried []hsm.Candidate
next:
	for _, w := range wrapWays {
		for _, ok := range permit {
			if !ok(w) {
				continue next
			}
		}
		err := w.try(r)
		if err == nil {
			return w, nil
		}
		tried = append(tried, hsm.Candidate{Name: wrapNames[w.mech], Number: w.mech, Reason: rv(err)})
	}
	if len(tried) == 0 {
		tried = []hsm.Candidate{{Name: "CKA_ENCRYPT and CKA_WRAP", Reason: "the key permits neither"}}
	}
	return nil, &hsm.MechanismError{Token: c.name(), Operation: string(opWrapKey), Candidates: tried}
}

// Known answers: AES-256-GCM and the key-wrapping rows of hsm.md §21.
var (
	wrapKEK = bytes.Repeat(katKey, 2)
	wrapKey = katKey
	wrapKAT = map[uint32]string{
		hsm.WrapKWP: "481F85798EBDE3C7039B9EF39210DCF16C306534F17B48E5",
		hsm.WrapKW:  "DFA2D9394B1C209FF9FF502AE61FAF2A5F36420C3433D8F1",
	}
)

// try runs the known answers of one way with session keys.
func (w *wrapWay) try(r raw) (err error) {
	kek, err := r.put(kdf.AES, wrapKEK, sessionAES(w.wraps, !w.wraps))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.c.DestroyObject(r.h, kek)) }()
	aad := []byte("instance=1;file=tps.cfg;gen=7")
	nonce, data, err := w.wrap(r, kek, wrapKey, aad)
	if err != nil {
		return err
	}
	if err := w.right(nonce, data, aad); err != nil {
		return err
	}
	back, err := w.unwrap(r, kek, nonce, data, aad)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, wrapKey) {
		return errWrong
	}
	data[0] ^= 1
	if back, err := w.unwrap(r, kek, nonce, data, aad); err == nil && bytes.Equal(back, wrapKey) {
		return errors.New("does not notice altered data")
	}
	return nil
}

// right compares with what memory makes of it. A token that draws its own nonce
// passes.
func (w *wrapWay) right(nonce, data, aad []byte) error {
	if w.wraps {
		if want := wrapKAT[w.mechanism]; fmt.Sprintf("%X", data) != want {
			return fmt.Errorf("gives %s, want %s", hex.EncodeToString(data), want)
		}
		return nil
	}
	b, err := aes.NewCipher(wrapKEK)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		return err
	}
	if got, err := aead.Open(nil, nonce, data, aad); err != nil || !bytes.Equal(got, wrapKey) {
		return errWrong
	}
	return nil
}

// sessionAES is the template of an AES session key of these usages.
func sessionAES(wraps, encrypts bool) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, uint(p11.CKK_AES)),
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, wraps || encrypts), attr(p11.CKA_EXTRACTABLE, !wraps && !encrypts),
		attr(p11.CKA_ENCRYPT, encrypts), attr(p11.CKA_DECRYPT, encrypts),
		attr(p11.CKA_SIGN, false), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, wraps), attr(p11.CKA_UNWRAP, wraps), attr(p11.CKA_DERIVE, false),
	}
}

func (w *wrapWay) wrap(r raw, kek p11.ObjectHandle, key, aad []byte) (nonce, data []byte, err error) {
	if !w.wraps {
		return r.gcmEncrypt(kek, key, aad)
	}
	o, err := r.put(kdf.AES, key, sessionAES(false, false))
	if err != nil {
		return nil, nil, err
	}
	data, err = r.c.WrapKey(r.h, mech(w.mech, nil), kek, o)
	return nil, data, errors.Join(err, r.c.DestroyObject(r.h, o))
}

func (w *wrapWay) unwrap(r raw, kek p11.ObjectHandle, nonce, data, aad []byte) ([]byte, error) {
	if len(data) < 16 { // the binding does not survive empty data
		return nil, fmt.Errorf("wrapped key of %d bytes", len(data))
	}
	if !w.wraps {
		return r.gcmDecrypt(kek, nonce, data, aad)
	}
	o, err := r.c.UnwrapKey(r.h, mech(w.mech, nil), kek, data, sessionAES(false, false))
	if err != nil {
		return nil, err
	}
	v, err := r.value(o)
	return v, errors.Join(err, r.c.DestroyObject(r.h, o))
}

const gcmNonce, gcmTagBits = 12, 128

// gcmEncrypt gives the token a random nonce and returns the one that it has used:
// some draw their own. An empty one is refused: a token that was given none may use
// a constant (hsm.md §11).
func (r raw) gcmEncrypt(k p11.ObjectHandle, plain, aad []byte) (nonce, out []byte, err error) {
	own := make([]byte, gcmNonce)
	rand.Read(own)
	p := p11.NewGCMParams(own, aad, gcmTagBits)
	defer p.Free()
	if err := r.c.EncryptInit(r.h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, p)}, k); err != nil {
		return nil, nil, err
	}
	if out, err = r.c.Encrypt(r.h, plain); err != nil {
		return nil, nil, err
	}
	if nonce = p.IV(); len(nonce) != gcmNonce {
		return nil, nil, fmt.Errorf("nonce of %d bytes", len(nonce))
	}
	return nonce, out, nil
}

func (r raw) gcmDecrypt(k p11.ObjectHandle, nonce, data, aad []byte) ([]byte, error) {
	if len(nonce) != gcmNonce {
		return nil, fmt.Errorf("nonce of %d bytes", len(nonce))
	}
	p := p11.NewGCMParams(nonce, aad, gcmTagBits)
	defer p.Free()
	if err := r.c.DecryptInit(r.h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, p)}, k); err != nil {
		return nil, err
	}
	return r.c.Decrypt(r.h, data)
}
