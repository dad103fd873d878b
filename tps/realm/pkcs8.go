package realm

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"

	"inkan/apdu/secret"
)

// Object identifiers of encrypted private keys (RFC 8018 appendix A, RFC 3565 §4.1).
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	prfs = []struct {
		id   asn1.ObjectIdentifier
		hash func() hash.Hash
	}{
		{nil, sha1.New}, // absent: the default
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, sha256.New},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
	}
	ciphers = []struct {
		id   asn1.ObjectIdentifier
		size int // of the key, bytes
	}{
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32},
	}
)

// maxIterations bounds how often a password is hashed.
const maxIterations = 2_000_000

// encryptedKey is an EncryptedPrivateKeyInfo (RFC 5958 §3) by PBES2.
type encryptedKey struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				ID     asn1.ObjectIdentifier
				Params struct {
					Salt       []byte
					Iterations int
					KeyLength  int                      `asn1:"optional"`
					PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
				}
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

// decryptPKCS8 opens an encrypted private key: PBES2 with PBKDF2 and AES-CBC, which is
// what openssl and keytool write.
func decryptPKCS8(der []byte, password secret.Secret) (crypto.Signer, error) {
	var e encryptedKey
	rest, err := asn1.Unmarshal(der, &e)
	if err != nil || len(rest) > 0 || !e.Algorithm.ID.Equal(oidPBES2) || !e.Algorithm.Params.KDF.ID.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("the private key is encrypted in another way than PBES2 with PBKDF2; openssl pkcs8 -topk8 -v2 aes-256-cbc writes that: %w", ErrInput)
	}
	if password.IsZero() {
		return nil, fmt.Errorf("the private key is encrypted, its password is needed: %w", ErrInput)
	}
	mode, err := e.mode(password)
	if err != nil {
		return nil, err
	}
	if len(e.Data) == 0 || len(e.Data)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("the encrypted private key is damaged: %w", ErrInput)
	}
	plain := make([]byte, len(e.Data))
	defer clear(plain)
	mode.CryptBlocks(plain, e.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errKeyPassword
	}
	s, err := privateKeyOf(plain[:len(plain)-pad])
	if err != nil {
		return nil, errKeyPassword
	}
	return s, nil
}

// errKeyPassword: what came out is no key.
var errKeyPassword = fmt.Errorf("wrong password of the private key: %w", ErrInput)

// mode derives the key and makes the cipher.
func (e *encryptedKey) mode(password secret.Secret) (cipher.BlockMode, error) {
	kdf, c := e.Algorithm.Params.KDF.Params, e.Algorithm.Params.Cipher
	size := 0
	for _, known := range ciphers {
		if known.id.Equal(c.ID) {
			size = known.size
		}
	}
	var hashed func() hash.Hash
	for _, known := range prfs {
		if known.id.Equal(kdf.PRF.Algorithm) {
			hashed = known.hash
		}
	}
	if size == 0 || hashed == nil || kdf.KeyLength != 0 && kdf.KeyLength != size || len(c.IV) != aes.BlockSize {
		return nil, fmt.Errorf("the private key is encrypted with another cipher or hash than AES-CBC and HMAC-SHA: %w", ErrInput)
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, fmt.Errorf("the password of the private key is hashed %d times, at most %d are done: %w", kdf.Iterations, maxIterations, ErrInput)
	}
	key, err := pbkdf2.Key(hashed, string(password.Bytes()), kdf.Salt, kdf.Iterations, size) // the library wants a string
	if err != nil {
		return nil, fmt.Errorf("the password of the private key cannot be used: %w", ErrInput)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewCBCDecrypter(block, c.IV), nil
}
