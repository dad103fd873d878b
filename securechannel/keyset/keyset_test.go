package keyset_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel/internal/vectors"
	"inkan/securechannel/keyset"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

type putKeyVector struct {
	Name, SCP string
	DEK       vectors.Hex
	NewKeys   struct{ Enc, Mac, Dek vectors.Hex } `json:"new_keys"`
	KeyType   vectors.Hex                         `json:"key_type"`
	NewKVN    vectors.Hex                         `json:"new_kvn"`
	KeyBlocks []vectors.Hex                       `json:"key_blocks"`
	KCV       []vectors.Hex
	Command   vectors.Hex `json:"command_plain"`
	Response  vectors.Hex
}

// crypt is the DEK encryption of a vector's protocol.
func (v putKeyVector) crypt() (keyset.Encrypt, func([]byte) ([]byte, bool)) {
	enc, dec := scp02.EncryptDEK, scp02.DecryptDEK
	switch v.SCP {
	case "01":
		enc, dec = scp01.EncryptDEK, scp01.DecryptDEK
	case "03":
		enc, dec = scp03.EncryptDEK, scp03.DecryptDEK
	}
	return func(p []byte) ([]byte, error) { return enc(v.DEK, p) },
		func(c []byte) ([]byte, bool) { p, err := dec(v.DEK, c); return p, err == nil }
}

func clone(h vectors.Hex) secret.Secret { return secret.New(bytes.Clone(h)) }

// TestDogtagKEKVectors: keys that Dogtag's key service hands out under a card's key
// encryption key, both ways, and their check values.
func TestDogtagKEKVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name         string
		KEK          vectors.Hex
		KEKAlgorithm string      `json:"kek_algorithm"`
		DESKey       vectors.Hex `json:"des_key_16"`
		AESKey       vectors.Hex `json:"aes_key"`
		WrappedDES   vectors.Hex `json:"kek_wrapped_des_key"`
		WrappedAES   vectors.Hex `json:"kek_wrapped_aes_key"`
		KCV          vectors.Hex `json:"keycheck"`
		KCVDES       vectors.Hex `json:"keycheck_des"`
		KCVAES       vectors.Hex `json:"keycheck_aes"`
	}
	for _, v := range vectors.LoadKind[vector](t, "put_key.json", "kek_wrap") {
		encrypts, decrypts := []func(k, p []byte) ([]byte, error){scp03.EncryptDEK}, []func(k, c []byte) ([]byte, error){scp03.DecryptDEK}
		if v.KEKAlgorithm == "des3" {
			encrypts, decrypts = append(encrypts[:0], scp01.EncryptDEK, scp02.EncryptDEK), append(decrypts[:0], scp01.DecryptDEK, scp02.DecryptDEK)
		}
		for _, k := range []struct {
			key, wrapped, kcv vectors.Hex
			check             func([]byte) (gp.KCV, error)
		}{
			{v.DESKey, v.WrappedDES, slices.Concat(v.KCV, v.KCVDES), primitive.KCVDES}, {v.AESKey, v.WrappedAES, v.KCVAES, primitive.KCVAES},
		} {
			if k.key == nil {
				continue
			}
			for i, encrypt := range encrypts {
				if got, err := encrypt(v.KEK, k.key); err != nil || !bytes.Equal(got, k.wrapped) {
					t.Errorf("%s: wrapped %x, %v, want %s", v.Name, got, err, k.wrapped)
				}
				if got, err := decrypts[i](v.KEK, k.wrapped); err != nil || !bytes.Equal(got, k.key) {
					t.Errorf("%s: unwrapped %x, %v, want %s", v.Name, got, err, k.key)
				}
			}
			if got, err := k.check(k.key); err != nil || !bytes.Equal(got[:], k.kcv) {
				t.Errorf("%s: check value %v, %v, want %s", v.Name, got, err, k.kcv)
			}
		}
	}
}

func TestPutKeyVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[putKeyVector](t, "put_key.json", "put_key") {
		cmd, err := apdu.ParseCommand(v.Command)
		if err != nil {
			t.Fatal(err)
		}
		encrypt, decrypt := v.crypt()

		var blocks []keyset.Block
		for _, k := range []vectors.Hex{v.NewKeys.Enc, v.NewKeys.Mac, v.NewKeys.Dek} {
			b, err := keyset.NewBlock(keyset.Type(v.KeyType.Byte()), clone(k), encrypt)
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			if int(v.KeyBlocks[0][1]) == b.Length {
				b.Form = keyset.NoInner
			}
			blocks = append(blocks, b)
		}
		got, err := keyset.Encode(gp.KeyVersion(v.NewKVN.Byte()), blocks...)
		if err != nil || !bytes.Equal(got, cmd.Data) {
			t.Errorf("%s: built %x, %v, want %x", v.Name, got, err, cmd.Data)
		}

		p, err := keyset.Parse(cmd.Data, decrypt)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		set, ok := p.Set()
		if !ok || !set.ENC.Equal(clone(v.NewKeys.Enc)) || !set.MAC.Equal(clone(v.NewKeys.Mac)) || !set.DEK.Equal(clone(v.NewKeys.Dek)) {
			t.Errorf("%s: parsed keys differ, set=%t", v.Name, ok)
		}
		answer := v.Response[:len(v.Response)-2]
		if !bytes.Equal(p.Answer(), answer) {
			t.Errorf("%s: answer %x, want %x", v.Name, p.Answer(), answer)
		}
		kcvs := [3]gp.KCV{gp.KCV(v.KCV[0]), gp.KCV(v.KCV[1]), gp.KCV(v.KCV[2])}
		for _, n := range []int{0, 1, len(answer)} {
			if err := keyset.CheckAnswer(answer[:n], p.Version, kcvs); err != nil {
				t.Errorf("%s: answer of %d bytes: %v", v.Name, n, err)
			}
		}
		kcvs[2][0] ^= 1
		if err := keyset.CheckAnswer(answer, p.Version, kcvs); !errors.Is(err, keyset.ErrKCV) {
			t.Errorf("%s: wrong check value: %v", v.Name, err)
		}
		if err := keyset.CheckAnswer(answer, p.Version+1, kcvs); err == nil {
			t.Errorf("%s: wrong version accepted", v.Name)
		}
	}
}

func TestBuildParseRoundTrip(t *testing.T) {
	t.Parallel()
	dek := bytes.Repeat([]byte{7}, 16)
	encrypt := func(p []byte) ([]byte, error) { return scp03.EncryptDEK(dek, p) }
	decrypt := func(c []byte) ([]byte, bool) { p, err := scp03.DecryptDEK(dek, c); return p, err == nil }
	for _, tc := range []struct {
		t keyset.Type
		n int
	}{{keyset.DES, 16}, {keyset.DESLegacy, 16}, {keyset.AES, 16}, {keyset.AES, 24}, {keyset.AES, 32}} {
		set := keyset.Set{Type: tc.t, ENC: secret.Random(tc.n), MAC: secret.Random(tc.n), DEK: secret.Random(tc.n)}
		data, kcvs, err := keyset.Build(0x21, set, encrypt)
		if err != nil {
			t.Fatal(err)
		}
		p, err := keyset.Parse(data, decrypt)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := p.Set()
		if !ok || !got.DEK.Equal(set.DEK) || !got.ENC.Equal(set.ENC) || !got.MAC.Equal(set.MAC) || p.Keys[1].KCV != kcvs[1] {
			t.Errorf("type=%v len=%d: keys differ", tc.t, tc.n)
		}
		// Every byte of the data is covered by a check: type, length, cryptogram, KCV.
		for i := 1; i < len(data); i++ {
			bad := bytes.Clone(data)
			bad[i] ^= 0x40
			q, err := keyset.Parse(bad, decrypt)
			if err == nil && bytes.Equal(q.Answer(), p.Answer()) {
				t.Errorf("type=%v len=%d: byte %d altered and nothing noticed", tc.t, tc.n, i)
			}
		}
		for n := range data {
			if q, err := keyset.Parse(data[:n], decrypt); err == nil && len(q.Keys) == 3 {
				t.Errorf("type=%v len=%d: cut to %d bytes parsed", tc.t, tc.n, n)
			}
		}
		p.Wipe()
		if !bytes.Equal(p.Keys[0].Value.Bytes(), make([]byte, tc.n)) {
			t.Error("not wiped")
		}
	}
}

func TestParseExtendedAndPublic(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0x41}, 16)
	kcv, _ := primitive.KCVAES(key)
	plain := func(c []byte) ([]byte, bool) { return bytes.Clone(c), true }
	ext := append([]byte{0x30, 0xFF, 0x88, 0x10}, key...)
	ext = append(append(ext, 3), kcv[:]...)
	ext = append(ext, 1, 0x18, 1, 0x00)
	rsa := append([]byte{0x73, 0xA1, 0x80}, make([]byte, 128)...)
	rsa = append(rsa, 0xA0, 3, 1, 0, 1, 0)
	rsaBER := append([]byte{0x73, 0xA1, 0x81, 0x80}, make([]byte, 128)...)
	rsaBER = append(rsaBER, 0xA0, 3, 1, 0, 1, 0)
	ec := append([]byte{0x70, 0xB0, 65}, make([]byte, 65)...)
	ec = append(ec, 0xF0, 1, 0, 0)
	noKCV := append(append([]byte{0x01, 0x80, 0x10}, key...), 0)
	for name, data := range map[string][]byte{"extended": ext, "rsa": rsa, "rsa BER": rsaBER, "ec": ec, "no KCV": noKCV} {
		p, err := keyset.Parse(data, plain)
		if err != nil || len(p.Keys) != 1 {
			t.Errorf("%s: %v, %d keys", name, err, len(p.Keys))
		}
		if _, ok := p.Set(); ok {
			t.Errorf("%s: is a set", name)
		}
		for n := range data {
			if q, err := keyset.Parse(data[:n], plain); err == nil && len(q.Keys) > 0 {
				t.Errorf("%s: cut to %d bytes parsed", name, n)
			}
		}
	}
	wrong := bytes.Clone(noKCV[:len(noKCV)-1])
	if _, err := keyset.Parse(append(wrong, 3, 1, 2, 3), plain); !errors.Is(err, keyset.ErrKCV) {
		t.Errorf("wrong check value: %v", err)
	}
	for name, data := range map[string][]byte{
		"version 00": {0, 0x80}, "version FF": {0xFF, 0x80}, "type": {1, 0x90, 0, 0},
		"empty key": {1, 0x80, 0, 0}, "length form": {1, 0x80, 0x84, 0, 0, 0, 1, 0},
	} {
		if _, err := keyset.Parse(data, plain); !errors.Is(err, keyset.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	same := func(p []byte) ([]byte, error) { return bytes.Clone(p), nil }
	k16, k24 := secret.Random(16), secret.Random(24)
	good := keyset.Set{Type: keyset.AES, ENC: k16, MAC: k16, DEK: k16}
	if _, _, err := keyset.Build(0xFF, good, same); err == nil {
		t.Error("version FF built")
	}
	if _, _, err := keyset.Build(1, keyset.Set{Type: keyset.AES, ENC: k16, MAC: k16, DEK: k24}, same); err == nil {
		t.Error("keys of two lengths built")
	}
	if _, _, err := keyset.Build(1, keyset.Set{Type: keyset.RSAPublic, ENC: k16, MAC: k16, DEK: k16}, same); err == nil {
		t.Error("public keys built")
	}
	broken := errors.New("HSM gone")
	if _, _, err := keyset.Build(1, good, func([]byte) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error of the encryption: %v", err)
	}
}

func FuzzPutKeyNoPanic(f *testing.F) {
	for _, v := range vectors.LoadKind[putKeyVector](f, "put_key.json", "put_key") {
		cmd, err := apdu.ParseCommand(v.Command)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(cmd.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := keyset.Parse(data, func(c []byte) ([]byte, bool) { return bytes.Clone(c), len(c)%8 == 0 })
		if err != nil && len(p.Keys) != 0 {
			t.Error("keys beside an error")
		}
		if set, ok := p.Set(); ok && set.DEK.Len() < 16 {
			t.Errorf("key of %d bytes", set.DEK.Len())
		}
	})
}

func Example() {
	dek, _ := aes.NewCipher([]byte("@ABCDEFGHIJKLMNO"))
	encrypt := func(plain []byte) ([]byte, error) {
		ct := make([]byte, len(plain))
		cipher.NewCBCEncrypter(dek, make([]byte, 16)).CryptBlocks(ct, plain)
		return ct, nil
	}
	k := func(b byte) secret.Secret { return secret.New(bytes.Repeat([]byte{b}, 16)) }
	data, kcvs, err := keyset.Build(0x02, keyset.Set{Type: keyset.AES, ENC: k(1), MAC: k(2), DEK: k(3)}, encrypt)
	fmt.Println(len(data), kcvs, err)
	// Output: 70 [5E77E5 8F42C2 B0EA4A] <nil>
}
