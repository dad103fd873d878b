//go:build cgo && !windows

package pkcs11

import (
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// oracles are the rights that a master key does without at level A: with one of them
// whoever is logged in computes card keys, which are encryptions of public data.
var oracles = []struct {
	attribute uint
	name      string
}{
	{p11.CKA_ENCRYPT, "CKA_ENCRYPT"}, {p11.CKA_DECRYPT, "CKA_DECRYPT"}, {p11.CKA_SIGN, "CKA_SIGN"},
	{p11.CKA_WRAP, "CKA_WRAP"}, {p11.CKA_UNWRAP, "CKA_UNWRAP"},
}

// rights are the attributes that a master key's protection depends on.
func rights() []uint {
	out := []uint{p11.CKA_DERIVE, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE}
	for _, o := range oracles {
		out = append(out, o.attribute)
	}
	return out
}

// madeAs are the attributes that a new master key gets here.
func madeAs(c kdf.Code, t hsm.KeyType, resident bool) map[uint][]byte {
	out := map[uint][]byte{}
	for _, a := range masterKey(hsm.MasterID{KDF: c}, t, resident, time.Time{}) {
		out[a.Type] = a.Value
	}
	return out
}

// protection is that of the cards' keys under a master key with the attributes a that
// is used in way derive (hsm.md §9). It depends on what the diversification does.
func (s strategies) protection(code kdf.Code, t hsm.KeyType, derive way, a map[uint][]byte) hsm.Protection {
	if !is(a[p11.CKA_SENSITIVE]) || is(a[p11.CKA_EXTRACTABLE]) {
		return hsm.Protection{Level: hsm.LevelD, Why: "the master key may leave the token: it is extractable, or not sensitive"}
	}
	d, err := kdf.Sample(code, kdf.Master{Cipher: t.Cipher(), Size: t.Size()})
	if err != nil {
		return hsm.Protection{Level: hsm.LevelC, Why: err.Error()}
	}
	if why := s.derivedInMemory(t, d, derive); why != "" {
		return hsm.Protection{Level: hsm.LevelC, Why: "the keys of cards are computed in memory: " + why}
	}
	var why []string
	if wrap := opWrap.with(d.Cipher); d.Method != kdf.Same && s.ways[wrap] != inside {
		why = append(why, "new card keys pass through memory for PUT KEY: "+s.refusal(wrap))
	}
	var may []string
	for _, o := range oracles {
		if is(a[o.attribute]) {
			may = append(may, o.name)
		}
	}
	if len(may) > 0 {
		why = append(why, "the master key may do more than derive: "+strings.Join(may, ", "))
	}
	if len(why) > 0 {
		return hsm.Protection{Level: hsm.LevelB, Why: strings.Join(why, "; ")}
	}
	return hsm.Protection{Level: hsm.LevelA}
}

// derivedInMemory says why card keys are not made inside; empty where they are.
func (s strategies) derivedInMemory(t hsm.KeyType, d kdf.Derivation, derive way) string {
	o := opDerive.with(t.Cipher())
	switch {
	case t.Cipher() == kdf.HMAC:
		return "CKM_SHA256_HMAC gives its result to the caller"
	case s.ways[o] != inside:
		return s.refusal(o)
	case derive != inside:
		return "the master key has no CKA_DERIVE"
	case d.Cipher != t.Cipher() && s.ways[opDeriveAES] != inside:
		return s.refusal(opDeriveAES)
	}
	return ""
}

// refusal is what the token said to the best way of doing o.
func (s strategies) refusal(o operation) string {
	tried := s.candidates(o)
	if len(tried) == 0 {
		return string(o) + " was not tried"
	}
	return tried[0].String()
}

// candidates is what was tried for o. Where there was no key to try it with, it is
// why there was none.
func (s strategies) candidates(o operation) []hsm.Candidate {
	if tried := s.tried[o]; len(tried) > 0 {
		return tried
	}
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES, kdf.HMAC} {
		if o == opDerive.with(c) || o == opEncrypt.with(c) || o == opWrap.with(c) || o == opCMAC && c == kdf.AES || (o == opDeriveAES || o == opSession) && c == kdf.DES {
			return s.tried[opImport.with(c)]
		}
	}
	return nil
}
