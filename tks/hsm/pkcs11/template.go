//go:build cgo && !windows

package pkcs11

import (
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Templates state every usage: what a token assumes where they are silent differs
// from one to the next, and with SoftHSM is "everything" (hsm.md §6).

func attr(t uint, v any) *p11.Attribute { return p11.NewAttribute(t, v) }

// exposure says how far the value of a session key may come out.
type exposure uint8

const (
	hidden   exposure = iota + 1 // not at all
	wrapable                     // wrapped under another key
	readable                     // in the clear
)

// cardKey is the template of a card key: a session object that ends with its work.
// A known HMAC key only signs.
func cardKey(t hsm.KeyType, e exposure) []*p11.Attribute {
	block := t != hsm.HMACKey
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, ckk(t)),
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, e != readable), attr(p11.CKA_EXTRACTABLE, e != hidden),
		attr(p11.CKA_ENCRYPT, block), attr(p11.CKA_DECRYPT, false),
		attr(p11.CKA_SIGN, t.Cipher() != kdf.DES), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, block), attr(p11.CKA_UNWRAP, false), attr(p11.CKA_DERIVE, block),
	}
}

// hiddenKeys are the templates of nearly all derived keys, made once.
var hiddenKeys = func() map[hsm.KeyType][]*p11.Attribute {
	all := map[hsm.KeyType][]*p11.Attribute{}
	for _, t := range []hsm.KeyType{hsm.AES128, hsm.AES192, hsm.AES256, hsm.DES2, hsm.DES3} {
		all[t] = newDerived(t, hidden)
	}
	return all
}()

// derived is cardKey for C_DeriveKey and C_GenerateKey, which want a length where
// the type leaves it open, and must not have it elsewhere. It is not to be changed.
func derived(t hsm.KeyType, e exposure) []*p11.Attribute {
	if made := hiddenKeys[t]; e == hidden && made != nil {
		return made
	}
	return newDerived(t, e)
}

func newDerived(t hsm.KeyType, e exposure) []*p11.Attribute {
	out := cardKey(t, e)
	if t.Cipher() == kdf.AES {
		out = append(out, attr(p11.CKA_VALUE_LEN, t.Size()))
	}
	return out
}

// bytesOut is the template of n bytes that are derived to be read: check values,
// CMAC terms.
func bytesOut(n int) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, uint(p11.CKK_GENERIC_SECRET)),
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true),
		attr(p11.CKA_ENCRYPT, false), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_SIGN, false), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, false), attr(p11.CKA_UNWRAP, false), attr(p11.CKA_DERIVE, false),
		attr(p11.CKA_VALUE_LEN, n),
	}
}

// masterKey is the template of a new master key for C_CreateObject: derive-only
// where the token can derive inside, else the one usage that level C needs. A
// master that is not diversified is itself the key of cards, and may what they may.
func masterKey(id hsm.MasterID, t hsm.KeyType, resident bool, now time.Time) []*p11.Attribute {
	ckaID := id.ID()
	card := !id.KDF.Diversified()
	encrypt := (card || !resident) && t != hsm.HMACKey
	out := []*p11.Attribute{
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, ckk(t)),
		attr(p11.CKA_LABEL, id.Label()), attr(p11.CKA_ID, ckaID[:]), attr(p11.CKA_START_DATE, now.UTC()),
		attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_ENCRYPT, encrypt), attr(p11.CKA_DECRYPT, false),
		attr(p11.CKA_SIGN, (card || !resident) && t.Cipher() != kdf.DES), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, card), attr(p11.CKA_UNWRAP, false), attr(p11.CKA_DERIVE, resident),
	}
	if resident && !card {
		out = append(out, attr(p11.CKA_ALLOWED_MECHANISMS, word(nil, ecbData(t.Cipher()))))
	}
	return append(out, attr(p11.CKA_COPYABLE, false), attr(p11.CKA_MODIFIABLE, false)) // MODIFIABLE stands last
}

// generated is masterKey for C_GenerateKey, which wants a length where the type
// leaves it open.
func generated(id hsm.MasterID, t hsm.KeyType, resident bool, now time.Time) []*p11.Attribute {
	out := masterKey(id, t, resident, now)
	if t.Cipher() != kdf.DES {
		out = append([]*p11.Attribute{attr(p11.CKA_VALUE_LEN, t.Size())}, out...)
	}
	return out
}

// keyGen is the generation mechanism of a key type.
func keyGen(t hsm.KeyType) uint {
	switch t {
	case hsm.DES2:
		return p11.CKM_DES2_KEY_GEN
	case hsm.DES3:
		return p11.CKM_DES3_KEY_GEN
	case hsm.HMACKey:
		return p11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return p11.CKM_AES_KEY_GEN
}
