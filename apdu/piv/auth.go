package piv

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/apdu/tlv"
)

// Tags inside the dynamic authentication template 7C (SP 800-73-4 part 2 table 7).
const (
	tagTemplate  tlv.Tag = 0x7C
	tagWitness   tlv.Tag = 0x80
	tagChallenge tlv.Tag = 0x81
	tagResponse  tlv.Tag = 0x82
	tagExponent  tlv.Tag = 0x85
)

// DefaultManagementKey is the management key of a card as it leaves the factory:
// 3DES, from firmware 5.7 on AES-192. It is public.
func DefaultManagementKey() []byte {
	return []byte{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}
}

// ManagementCipher is the cipher of a management key.
func ManagementCipher(alg Algorithm, key []byte) (cipher.Block, error) {
	switch {
	case !alg.Symmetric():
		return nil, fmt.Errorf("%v is no algorithm of management keys", alg)
	case len(key) != alg.KeyLen():
		return nil, fmt.Errorf("%v key of %d bytes, want %d", alg, len(key), alg.KeyLen())
	case alg == TripleDES:
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// ErrCardNotProved means that the card does not have the management key it was
// authenticated with: it is another card, or something stands between.
var ErrCardNotProved = errors.New("the card has not proved that it has the management key")

// Authenticate proves the management key to the card and has the card prove it
// back. A key that the card does not take is [apdu.SWSecurityStatus], from
// PivApplet [apdu.SWWrongData].
func Authenticate(ctx context.Context, d apdu.Doer, alg Algorithm, key secret.Secret) error {
	const what = "authenticating with the management key"
	block, err := ManagementCipher(alg, key.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n := block.BlockSize()
	sealed, err := dynamic(ctx, d, what, alg, Management, tagWitness, tlv.Encode(tagWitness))
	if err != nil {
		return err
	}
	if len(sealed) != n {
		return fmt.Errorf("%s: witness of %d bytes, want %d", what, len(sealed), n)
	}
	witness, challenge, want := make([]byte, n), make([]byte, n), make([]byte, n)
	block.Decrypt(witness, sealed)
	rand.Read(challenge)
	block.Encrypt(want, challenge)
	fields := tlv.Append(tlv.Encode(tagWitness, witness), tagChallenge, challenge)
	got, err := dynamic(ctx, d, what, alg, Management, tagResponse, fields)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("%s: %w", what, ErrCardNotProved)
	}
	return nil
}

// AuthenticateHost proves the management key to the card, which proves nothing
// back. [Authenticate] is to be preferred.
func AuthenticateHost(ctx context.Context, d apdu.Doer, alg Algorithm, key secret.Secret) error {
	const what = "authenticating with the management key"
	block, err := ManagementCipher(alg, key.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	challenge, err := dynamic(ctx, d, what, alg, Management, tagChallenge, tlv.Encode(tagChallenge))
	if err != nil {
		return err
	}
	if len(challenge) != block.BlockSize() {
		return fmt.Errorf("%s: challenge of %d bytes, want %d", what, len(challenge), block.BlockSize())
	}
	answer := make([]byte, len(challenge))
	block.Encrypt(answer, challenge)
	_, err = call(ctx, d, what, authenticate(alg, Management, tlv.Encode(tagResponse, answer)))
	return err
}

// SetManagementKey replaces the management key, which must have been proved. With
// touch each use of it wants a touch.
func SetManagementKey(ctx context.Context, d apdu.Doer, alg Algorithm, key secret.Secret, touch bool) error {
	const what = "setting the management key"
	if _, err := ManagementCipher(alg, key.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	p2 := managementP1
	if touch {
		p2 = managementTouched
	}
	data := append([]byte{byte(alg), byte(Management), byte(key.Len())}, key.Bytes()...)
	defer clear(data)
	_, err := call(ctx, d, what, command(InsSetManagement, managementP1, p2, data, 0))
	return err
}

// authenticate is GENERAL AUTHENTICATE with the fields in a template.
func authenticate(alg Algorithm, key Slot, fields []byte) apdu.Command {
	return command(InsAuthenticate, byte(alg), byte(key), tlv.Encode(tagTemplate, fields), apdu.MaxShortNe)
}

// dynamic runs GENERAL AUTHENTICATE and takes one field out of the answer.
func dynamic(ctx context.Context, d apdu.Doer, what string, alg Algorithm, key Slot, want tlv.Tag, fields []byte) ([]byte, error) {
	b, err := call(ctx, d, what, authenticate(alg, key, fields))
	if err != nil {
		return nil, err
	}
	v, ok := tlv.Find(b, tagTemplate, want)
	if !ok {
		return nil, fmt.Errorf("%s: no field %v in the answer", what, want)
	}
	return v, nil
}
