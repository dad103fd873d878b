//go:build cgo && !windows

package pkcs11

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// mechNames are the mechanisms that this package uses.
var mechNames = map[uint]string{
	p11.CKM_AES_CMAC: "CKM_AES_CMAC", p11.CKM_AES_CBC: "CKM_AES_CBC", p11.CKM_DES3_CBC: "CKM_DES3_CBC",
	p11.CKM_DES3_ECB: "CKM_DES3_ECB", p11.CKM_AES_ECB_ENCRYPT_DATA: "CKM_AES_ECB_ENCRYPT_DATA",
	p11.CKM_DES3_ECB_ENCRYPT_DATA: "CKM_DES3_ECB_ENCRYPT_DATA", p11.CKM_DES3_CBC_ENCRYPT_DATA: "CKM_DES3_CBC_ENCRYPT_DATA",
	p11.CKM_AES_KEY_WRAP: "CKM_AES_KEY_WRAP", p11.CKM_AES_CBC_PAD: "CKM_AES_CBC_PAD",
	p11.CKM_SHA256_HMAC: "CKM_SHA256_HMAC", p11.CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
	p11.CKM_AES_KEY_GEN: "CKM_AES_KEY_GEN", p11.CKM_DES2_KEY_GEN: "CKM_DES2_KEY_GEN", p11.CKM_DES3_KEY_GEN: "CKM_DES3_KEY_GEN",
	p11.CKM_RSA_PKCS_KEY_PAIR_GEN: "CKM_RSA_PKCS_KEY_PAIR_GEN", p11.CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN",
	p11.CKM_RSA_PKCS: "CKM_RSA_PKCS", p11.CKM_RSA_PKCS_PSS: "CKM_RSA_PKCS_PSS", p11.CKM_ECDSA: "CKM_ECDSA",
}

// candidate says how a mechanism did.
func candidate(m uint, err error) hsm.Candidate {
	c := hsm.Candidate{Name: mechNames[m], Number: m, Reason: "works"}
	if err != nil {
		c.Reason = rv(err)
	}
	return c
}

func mech(m uint, param []byte) []*p11.Mechanism {
	if param == nil {
		return []*p11.Mechanism{p11.NewMechanism(m, nil)}
	}
	return []*p11.Mechanism{p11.NewMechanism(m, param)}
}

// encryptData is the parameter of the *_ENCRYPT_DATA mechanisms
// (CK_KEY_DERIVATION_STRING_DATA, CK_DES_CBC_ENCRYPT_DATA_PARAMS): iv, pointer to
// data, length. The caller unpins after the call. data is not empty.
func encryptData(iv, data []byte) (param []byte, pin *runtime.Pinner) {
	pin = new(runtime.Pinner)
	pin.Pin(&data[0])
	param = append(param, iv...)
	param = word(param, uint(uintptr(unsafe.Pointer(&data[0]))))
	return word(param, uint(len(data))), pin
}

// word appends a CK_ULONG, which is as long as a pointer on Unix.
func word(b []byte, v uint) []byte {
	if unsafe.Sizeof(v) == 4 {
		return binary.NativeEndian.AppendUint32(b, uint32(v))
	}
	return binary.NativeEndian.AppendUint64(b, uint64(v))
}

// ulong reads a CK_ULONG attribute.
func ulong(b []byte) (uint, error) {
	switch len(b) {
	case 8:
		return uint(binary.NativeEndian.Uint64(b)), nil
	case 4:
		return uint(binary.NativeEndian.Uint32(b)), nil
	}
	return 0, fmt.Errorf("number of %d bytes", len(b))
}

// ckk is the CKA_KEY_TYPE of a key type.
func ckk(t hsm.KeyType) uint {
	switch t {
	case hsm.DES2:
		return p11.CKK_DES2
	case hsm.DES3:
		return p11.CKK_DES3
	case hsm.HMACKey:
		return p11.CKK_GENERIC_SECRET
	}
	return p11.CKK_AES
}

// ecbData is the derivation mechanism of a base key's cipher in ECB.
func ecbData(c kdf.Cipher) uint {
	if c == kdf.DES {
		return p11.CKM_DES3_ECB_ENCRYPT_DATA
	}
	return p11.CKM_AES_ECB_ENCRYPT_DATA
}

// cbc is the CBC mechanism of a cipher, and its zero IV.
func cbc(c kdf.Cipher) (uint, []byte) {
	if c == kdf.DES {
		return p11.CKM_DES3_CBC, make([]byte, 8)
	}
	return p11.CKM_AES_CBC, make([]byte, 16)
}
