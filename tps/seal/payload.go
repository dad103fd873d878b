package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"inkan/apdu/secret"
)

// domain separates this format's keys from all others.
const domain = "TMSSEAL-v1"

// dataKeySize is the length of a data key, in bytes.
const dataKeySize = 32

// binding ties a wrapped data key to instance, role, generation and slot.
func (h *Header) binding(slot uint8) []byte {
	b := append([]byte(domain), 0)
	b = append(b, h.Instance[:]...)
	b = append(b, byte(len(h.Role)))
	b = append(b, h.Role...)
	b = binary.BigEndian.AppendUint64(b, h.Generation)
	sum := sha256.Sum256(append(b, slot))
	return sum[:]
}

// aead is the cipher of the content. Its key depends on instance, generation and
// role: slots without associated data are bound by it.
func (h *Header) aead(dataKey secret.Secret) (cipher.AEAD, error) {
	if dataKey.Len() != dataKeySize {
		return nil, fmt.Errorf("data key of %d bytes", dataKey.Len())
	}
	salt := binary.BigEndian.AppendUint64(append([]byte(nil), h.Instance[:]...), h.Generation)
	key, err := hkdf.Key(sha256.New, dataKey.Bytes(), salt, domain+" payload "+string(h.Role), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// encode seals plaintext under the data key that the slots of h wrap.
func (h *Header) encode(dataKey secret.Secret, plaintext []byte) ([]byte, error) {
	head, err := h.head(len(plaintext))
	if err != nil {
		return nil, err
	}
	aead, err := h.aead(dataKey)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(head), len(head)+len(plaintext)+tagSize+trailerSize)
	copy(out, head)
	out = aead.Seal(out, h.nonce, plaintext, head)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

// decrypt opens the content. What fails here was forged, or the data key is not
// the file's.
func (f *File) decrypt(dataKey secret.Secret) (secret.Secret, error) {
	aead, err := f.aead(dataKey)
	if err != nil {
		return secret.Secret{}, err
	}
	b, err := aead.Open(nil, f.nonce, f.payload, f.aad)
	if err != nil {
		return secret.Secret{}, err
	}
	return secret.New(b), nil
}
