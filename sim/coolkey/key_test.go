package coolkey_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/coolkey"
)

// loggedInCard has a PIN, and the access of who verified it.
func loggedInCard(t testing.TB) (*fakeCard, ck.Access) {
	t.Helper()
	f := newCard(t, coolkey.Config{}, "00022000")
	check(t, ck.CreatePIN(t.Context(), f, ck.Channel(), 0, 5, pinOf(t, "1234")))
	return f, ck.Login(must(ck.VerifyPIN(t.Context(), f, 0, pinOf(t, "1234")))(t))
}

func TestRSAOfEverySize(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{2048, 3072, 4096} {
		t.Run(fmt.Sprintf("bits=%d", bits), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			f, login := loggedInCard(t)
			n := must(ck.GenerateRSA(ctx, f, ck.Slots{Private: 2, Public: 3}, bits, f.wrap(challenge)))(t)
			if want := map[int]int{2048: 0x20F, 3072: 0x30F, 4096: 0x40F}[bits]; n != want {
				t.Errorf("key result of %d bytes, want %d", n, want)
			}
			r := must(ck.ReadKeyResult(ctx, f, n))(t)
			check(t, ck.VerifyProof(r, challenge))
			pub := r.Public.(*rsa.PublicKey)
			key := ck.Key{Number: 2, Public: pub}
			digest := sha256.Sum256([]byte("message"))
			sig := must(key.SignDigest(ctx, f, login, crypto.SHA256, digest[:]))(t)
			check(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig))
			secretText := []byte("for your eyes only")
			//lint:ignore SA1019 what mail programs send to a card
			sealed := must(rsa.EncryptPKCS1v15(rand.Reader, pub, secretText))(t)
			if plain := must(key.DecryptPKCS1(ctx, f, login, sealed))(t); !bytes.Equal(plain, secretText) {
				t.Errorf("decrypted %q", plain)
			}
			if _, err := key.DecryptPKCS1(ctx, f, login, sig); err == nil {
				t.Error("a signature decrypts")
			}
			// the public half does the inverse
			raw := must(ck.ComputeRSA(ctx, f, login, 3, ck.Sign, sig))(t)
			if !bytes.HasSuffix(raw, digest[:]) || raw[1] != 1 {
				t.Errorf("public operation gives %x", raw)
			}
			if _, err := ck.ComputeRSA(ctx, f, ck.Anonymous(), 2, ck.Sign, sig); !errors.Is(err, ck.SWUnauthorized) {
				t.Errorf("without login: %v", err)
			}
			if _, err := ck.ComputeRSA(ctx, f, ck.Channel(), 2, ck.Sign, sig); !errors.Is(err, ck.SWUnauthorized) {
				t.Errorf("as authority, which is no PIN: %v", err)
			}
			big := bytes.Repeat([]byte{0xFF}, pub.Size())
			if _, err := ck.ComputeRSA(ctx, f, login, 2, ck.Sign, big); !errors.Is(err, ck.SWInvalidParameter) {
				t.Errorf("input above the modulus: %v", err)
			}
		})
	}
}

func TestECOfEveryCurve(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{256, 384, 521} {
		t.Run(fmt.Sprintf("bits=%d", bits), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			f, login := loggedInCard(t)
			n := must(ck.GenerateEC(ctx, f, ck.Slots{Private: 2, Public: 3}, bits, f.wrap(challenge)))(t)
			r := must(ck.ReadKeyResult(ctx, f, n))(t)
			check(t, ck.VerifyProof(r, challenge))
			pub := r.Public.(*ecdsa.PublicKey)
			mine := must(pub.ECDH())(t)
			key := ck.Key{Number: 2, Public: pub}
			for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				digest := bytes.Repeat([]byte{0xA5}, h.Size())
				sig := must(key.SignDigest(ctx, f, login, h, digest))(t)
				if !ecdsa.VerifyASN1(pub, digest, sig) {
					t.Errorf("hash=%v: signature does not verify", h)
				}
			}
			peer := must(mine.Curve().GenerateKey(rand.Reader))(t)
			want := must(peer.ECDH(mine))(t)
			if got := must(ck.DeriveECDH(ctx, f, login, 2, peer.PublicKey().Bytes()))(t); !bytes.Equal(got, want) {
				t.Errorf("agreed on %x, want %x", got, want)
			}
			testCoolkeyForm(t, f, login, pub, peer, want)

			list := must(ck.ListKeys(ctx, f))(t)
			if len(list) != 2 || list[0].Type != ck.KeyECPrivate || list[1].Type != ck.KeyECPublic || list[0].Bits != bits {
				t.Errorf("keys %+v", list)
			}
			if _, err := ck.SignECDSA(ctx, f, login, 3, make([]byte, 32)); !errors.Is(err, ck.SWKeyTypeUnsupported) {
				t.Errorf("signing with the public key: %v", err)
			}
			if _, err := ck.SignECDSA(ctx, f, ck.Anonymous(), 2, make([]byte, 32)); !errors.Is(err, ck.SWUnauthorized) {
				t.Errorf("without login: %v", err)
			}
			if _, err := ck.ComputeRSA(ctx, f, login, 2, ck.Sign, make([]byte, 128)); !errors.Is(err, ck.SWKeyTypeUnsupported) {
				t.Errorf("RSA with an EC key: %v", err)
			}
			off := append([]byte{4}, make([]byte, 2*((bits+7)/8))...)
			if _, err := ck.DeriveECDH(ctx, f, login, 2, off); !errors.Is(err, ck.SWInvalidParameter) {
				t.Errorf("a point off the curve: %v", err)
			}
		})
	}
}

// testCoolkeyForm uses INS 37 and 38 the other way round, as libckyapplet does.
func testCoolkeyForm(t *testing.T, f *fakeCard, login ck.Access, pub *ecdsa.PublicKey, peer *ecdh.PrivateKey, want []byte) {
	t.Helper()
	nonce := must(ck.VerifyPIN(t.Context(), f, 0, pinOf(t, "1234")))(t)
	digest := sha256.Sum256([]byte("x"))
	data := append([]byte{1, 0, 32}, digest[:]...)
	r, _ := f.Do(t.Context(), apdu.Command{CLA: 0xB0, INS: 0x37, P1: 2, P2: 4, Data: append(data, nonce.Bytes()...)})
	if n := len(r.Data); n < 2 || int(binary.BigEndian.Uint16(r.Data)) != n-2 || !ecdsa.VerifyASN1(pub, digest[:], r.Data[2:]) {
		t.Errorf("INS 37 with a hash: %x %v", r.Data, r.SW)
	}
	point := peer.PublicKey().Bytes()
	data = append([]byte{1, 0, byte(len(point))}, point...)
	r, _ = f.Do(t.Context(), apdu.Command{CLA: 0xB0, INS: 0x38, P1: 2, P2: 4, Data: append(data, nonce.Bytes()...)})
	if !bytes.Equal(r.Data, append([]byte{0, byte(len(want))}, want...)) {
		t.Errorf("INS 38 with a point: %x %v", r.Data, r.SW)
	}
}

func TestCryptRefusals(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	f := newCard(t, coolkey.Config{}, "")
	f.keys.next = append(f.keys.next, v.Signing.key())
	must(ck.GenerateRSA(t.Context(), f, ck.Slots{Private: 2, Public: 3, Owner: ck.OwnerAnyone}, 1024, f.wrap(challenge)))(t)
	must(ck.GenerateRSA(t.Context(), f, ck.Slots{Private: 4, Public: 5, Owner: ck.OwnerAnyone}, 2048, f.wrap(challenge)))(t)
	must(ck.GenerateEC(t.Context(), f, ck.Slots{Private: 6, Public: 7, Owner: ck.OwnerAnyone}, 256, f.wrap(challenge)))(t)
	f.want("00A4040007 627601FF000000", "9000") // empties the buffer
	block := strings.Repeat("00", 127) + "02"
	for command, sw := range map[string]string{
		"8436030485 00 03 01 0080" + block:                            "", // the public key may be used
		"8436020185 00 03 01 0080" + block:                            "9C0F",
		"8436090485 00 03 01 0080" + block:                            "9C10",
		"8436FF0485 00 03 01 0080" + block:                            "9C10",
		"8436020585 00 03 01 0080" + block:                            "9C11",
		"8436020085 00 03 01 0080" + block:                            "9C11",
		"8436020285 00 03 01 0080" + block:                            "9C17",
		"8436020485 01 03 01 0080" + block:                            "9C1B",
		"8436020485 02 03 01 0080" + block:                            "9C1C",
		"8436020485 00 01 01 0080" + block:                            "9C13",
		"8436020485 00 02 01 0080" + block:                            "9C13",
		"8436020485 00 05 01 0080" + block:                            "9C14",
		"8436020485 00 03 03 0080" + block:                            "9C16",
		"8436020485 00 03 01 007F" + block:                            "9C19",
		"8436020485 00 03 01 0081" + block:                            "9C1F",
		"8436020404 00 03 01 00":                                      "9C1F",
		"8436020402 00 03":                                            "9C0F",
		"8436020105 00 03 01 0001":                                    "9C19",
		"8436020300":                                                  "6985",
		"8436020405 00 03 02 0000":                                    "9C1F", // nothing in the buffer
		"8436040485 00 03 01 0080" + block:                            "9C1D", // the answer would not fit
		"8436060485 00 03 01 0080" + block:                            "9C17",
		"B037020417 01 000C" + strings.Repeat("AA", 12) + zeros(8):    "9C17",
		"B037060317 01 000C" + strings.Repeat("AA", 12) + zeros(8):    "9C11",
		"B037060417 02 000C" + strings.Repeat("AA", 12) + zeros(8):    "9C15",
		"B037060417 03 000C" + strings.Repeat("AA", 12) + zeros(8):    "9C16",
		"B037060417 01 000D" + strings.Repeat("AA", 12) + zeros(8):    "9C0F",
		"B03706040B 01 0000" + zeros(8):                               "9C19",
		"B03806044C 01 0041 04" + strings.Repeat("11", 64) + zeros(8): "9C0F", // off the curve
		"B03806046C 01 0061 04" + strings.Repeat("11", 96) + zeros(8): "9C0F", // another curve
		"8437060417 01 000C" + strings.Repeat("AA", 12) + zeros(8):    "6D00", // plain only
		"8438060417 01 000C" + strings.Repeat("AA", 12) + zeros(8):    "6D00",
	} {
		if sw == "" {
			if got := f.send(command); !strings.HasSuffix(got, "9000") || len(got) != 2*(2+128+2) {
				t.Errorf("%s → %s", command, got)
			}
			continue
		}
		f.want(command, sw)
	}
}

func zeros(n int) string { return strings.Repeat("00", n) }

func TestGenerateRefusals(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	f := newCard(t, coolkey.Config{}, "")
	f.keys.next = append(f.keys.next, v.Signing.key())
	wrapped := hex.EncodeToString(f.wrap(challenge))
	f.want("840C020317 80 0400 00 00 10"+wrapped+"00", "010F 9000")
	for command, sw := range map[string]string{
		"840C920317 80 0400 00 00 10" + wrapped + "00":   "9C10", // owner
		"840C020318 80 0400 00 00 10" + wrapped + "0000": "6700",
		"840C020300": "6700",
		"840C020317 81 0400 00 00 10" + wrapped + "00": "9C09",
		"840C060717 80 0200 00 00 10" + wrapped + "00": "9C1A",
		"840C060717 80 0401 00 00 10" + wrapped + "00": "9C1A",
		"840C060717 80 1100 00 00 10" + wrapped + "00": "9C1A",
		"840C060717 80 0600 00 00 10" + wrapped + "00": "9CFF", // the pool has none
		"840C020317 80 0800 00 00 10" + wrapped + "00": "9C03", // another size
		"840D020317 05 0100 00 00 10" + wrapped + "00": "9C03", // another type
		"840C020517 80 0400 00 00 10" + wrapped + "00": "9C1E", // torn pair
		"840C060317 80 0400 00 00 10" + wrapped + "00": "9C1E",
		"840C060617 80 0800 00 00 10" + wrapped + "00": "9C1E",
		"840C060717 80 0800 00 00 08" + wrapped + "00": "9C20",
		"840C060717 80 0800 00 00 10" + wrapped + "03": "9C20",
		"840D060717 06 0100 00 00 10" + wrapped + "00": "9C09",
		"840D060717 05 00E0 00 00 10" + wrapped + "00": "9C1A",
	} {
		f.want(command, sw)
	}
	// the refusals left the key alone
	if list := must(ck.ListKeys(t.Context(), f))(t); len(list) != 2 || list[0].Number != 2 || list[0].Mate != 3 {
		t.Errorf("keys %+v", list)
	}
	// the old form: slots 0 and 1, anybody uses
	f.want("840C000017 80 0800 00 00 10"+wrapped+"00", "020F 9000")
	if list := must(ck.ListKeys(t.Context(), f))(t); list[0].Number != 0 || list[0].ACL.Use != ck.ACLEveryone || list[1].Mate != 0 {
		t.Errorf("keys %+v", list)
	}
}

func TestClearKeySlots(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	pairs := []ck.Slots{{Private: 2, Public: 3}, {Private: 4, Public: 5}, {Private: 6, Public: 7}}
	for _, s := range pairs {
		must(ck.GenerateEC(ctx, f, s, 256, f.wrap(challenge)))(t)
	}
	f.want("8455000000", "9C0F")
	f.want("8455000001 02", "9C0F")
	f.want("8455000002 0218", "9C0F")
	f.want("8455000002 0205", "9C1E")
	f.want("8455010002 0203", "9C10")
	check(t, ck.ClearKeySlots(ctx, f, []ck.Slots{pairs[0], {Private: 12, Public: 13}}))
	list := must(ck.ListKeys(ctx, f))(t)
	if len(list) != 2 || list[0].Number != 2 || list[1].Number != 3 {
		t.Errorf("keys %+v", list)
	}
	if s := must(ck.ReadStatus(ctx, f))(t); s.Keys != 6 {
		t.Errorf("%d slots were ever filled, want 6", s.Keys)
	}
	f.want("8436040400", "9C10")
	// a cleared slot takes another type and another partner
	must(ck.GenerateRSA(ctx, f, ck.Slots{Private: 4, Public: 7}, 2048, f.wrap(challenge)))(t)
}

var imports = []struct {
	algorithm ck.ImportAlgorithm
	transport int
}{
	{ck.ImportDES, 16}, {ck.ImportAESKWP, 16}, {ck.ImportAESKWP, 32}, {ck.ImportAESCBC, 16}, {ck.ImportAESCBC, 32},
}

func TestImportEncrypted(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	ec := must((&pool{}).EC(must(ck.CurveOfBits(384))(t)))(t)
	keys := map[string]crypto.Signer{"rsa1024": v.Encryption.key(), "rsa2048": fixedKeys()[2048], "ec384": ec}
	for name, k := range keys {
		for _, tt := range imports {
			t.Run(fmt.Sprintf("key=%s/algorithm=%v/transport=%d", name, tt.algorithm, tt.transport), func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				f, login := loggedInCard(t)
				f.aes = tt.algorithm != ck.ImportDES
				i := importOf(t, f, tt.algorithm, tt.transport, k)
				check(t, ck.ImportEncrypted(ctx, f, ck.Slots{Private: 4, Public: 5}, i))
				key := ck.Key{Number: 4, Public: k.Public()}
				digest := sha256.Sum256([]byte("message"))
				sig := must(key.SignDigest(ctx, f, login, crypto.SHA256, digest[:]))(t)
				if pub, ok := k.Public().(*rsa.PublicKey); ok {
					check(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig))
				} else if !ecdsa.VerifyASN1(&ec.PublicKey, digest[:], sig) {
					t.Error("signature does not verify")
				}
				// the object stays, all zeros
				o := must(ck.ListObject(ctx, f, false))(t)
				content := must(ck.ReadObject(ctx, f, ck.Channel(), ck.IDImport, 0, o.Size))(t)
				if o.ID != ck.IDImport || !bytes.Equal(content, make([]byte, o.Size)) {
					t.Errorf("object %v holds %x", o.ID, content)
				}
			})
		}
	}
}

func importOf(t testing.TB, f *fakeCard, alg ck.ImportAlgorithm, transport int, k crypto.Signer) ck.Import {
	t.Helper()
	key := make([]byte, transport)
	io.ReadFull(rand.Reader, key)
	w := must(ck.WrapPrivateKey(alg, secretOf(key), pkcs8Of(t, k)))(t)
	return ck.Import{WrappedPrivateKey: w, TransportKey: f.wrap(key)}
}

func TestImportOlderApplets(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	k := v.Encryption.key()
	slots := ck.Slots{Private: 4, Public: 5}
	for _, variant := range []coolkey.Variant{coolkey.Applet13, coolkey.Applet14, coolkey.Applet15} {
		f := newCard(t, coolkey.Config{Variant: variant}, "")
		i := importOf(t, f, ck.ImportDES, 16, k)
		i.KeyCheck = nil // "none" is taken by all
		if n := len(i.Blob); n != 644 {
			t.Errorf("blob of %d bytes, want 644", n)
		}
		check(t, ck.ImportEncrypted(t.Context(), f, slots, i))
		i.KeyCheck = []byte{1, 2, 3}
		err := ck.ImportEncrypted(t.Context(), f, slots, i)
		if want := variant == coolkey.Applet15; errors.Is(err, ck.SWBadWrappedKey) != want {
			t.Errorf("variant=%s: wrong key check: %v", variant, err)
		}
		f.aes = true
		if err := ck.ImportEncrypted(t.Context(), f, slots, importOf(t, f, ck.ImportAESKWP, 16, k)); (err == nil) != (variant == coolkey.Applet15) {
			t.Errorf("variant=%s: AES: %v", variant, err)
		}
		ec := must((&pool{}).EC(must(ck.CurveOfBits(256))(t)))(t)
		if err := ck.ImportEncrypted(t.Context(), f, ck.Slots{Private: 6, Public: 7}, importOf(t, f, ck.ImportDES, 16, ec)); err == nil {
			t.Errorf("variant=%s: an EC key is taken", variant)
		}
	}
}

func TestImportRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := getVectors(t)
	f := newCard(t, coolkey.Config{}, "")
	f.aes = true
	slots := ck.Slots{Private: 4, Public: 5}
	good := func() ck.Import { return importOf(t, f, ck.ImportAESKWP, 16, v.Encryption.key()) }
	for name, tt := range map[string]struct {
		change func(i *ck.Import)
		sw     apdu.StatusWord
	}{
		"key check length": {func(i *ck.Import) { i.KeyCheck = i.KeyCheck[:2] }, ck.SWUnsupported},
		"key check":        {func(i *ck.Import) { i.KeyCheck[0] ^= 1 }, ck.SWBadWrappedKey},
		"transport key":    {func(i *ck.Import) { i.TransportKey[0] ^= 1 }, ck.SWBadWrappedKey},
		"IV length":        {func(i *ck.Import) { i.IV = i.IV[:7] }, apdu.SWWrongLength},
		"no IV":            {func(i *ck.Import) { i.IV = nil }, apdu.SWWrongLength},
		"ciphertext":       {func(i *ck.Import) { i.Blob[20] ^= 1 }, ck.SWBadPrivateKey},
		"cut":              {func(i *ck.Import) { i.Blob = i.Blob[:len(i.Blob)-1] }, ck.SWBadPrivateKey},
		"short":            {func(i *ck.Import) { i.Blob = i.Blob[:4] }, ck.SWInvalidParameter},
		"encoding":         {func(i *ck.Import) { i.Blob[0] = 2 }, ck.SWUnsupported},
		"type":             {func(i *ck.Import) { i.Blob[1] = 7 }, ck.SWKeyTypeUnsupported},
		"type of EC":       {func(i *ck.Import) { i.Blob[1] = 0x0C }, ck.SWBadAlgorithmID},
		"size":             {func(i *ck.Import) { i.Blob[2] = 8 }, ck.SWKeySize},
		"plain garbage":    {func(i *ck.Import) { i.Blob[0] = 0 }, ck.SWBadPrivateKey},
		"plain bad DER":    {func(i *ck.Import) { i.Blob = []byte{0, 9, 4, 0, 0x30, 0x82, 0xFF, 0xFF, 1} }, ck.SWBadDER},
	} {
		i := good()
		tt.change(&i)
		if err := ck.ImportEncrypted(ctx, f, slots, i); !errors.Is(err, tt.sw) {
			t.Errorf("case=%s: %v, want %v", name, err, tt.sw)
		}
		n := min(4, len(i.Blob))
		b := must(ck.ReadObject(ctx, f, ck.Channel(), ck.IDImport, 0, n))(t)
		if wiped := bytes.Equal(b, make([]byte, n)); wiped == (tt.sw == apdu.SWWrongLength) {
			t.Errorf("case=%s: the object holds %x afterwards", name, b)
		}
	}
	if list := must(ck.ListKeys(ctx, f))(t); len(list) != 0 {
		t.Errorf("keys %+v", list)
	}
	i := good()
	es := must(ck.ImportEntries(slots, i))(t)
	last := es[len(es)-1].Command
	check(t, ck.DeleteObject(ctx, f, ck.Channel(), ck.IDImport, ck.Zeroize))
	expect := func(c apdu.Command, sw apdu.StatusWord) {
		t.Helper()
		if r, _ := f.Do(ctx, c); r.SW != sw {
			t.Errorf("%02X%02X with %d bytes → %v, want %v", c.P1, c.P2, len(c.Data), r.SW, sw)
		}
	}
	expect(last, ck.SWObjectNotFound)
	check(t, ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: ck.IDImport, Size: 99, ACL: ck.ObjectACL{Read: ck.ACLAuthority}}))
	expect(last, ck.SWUnauthorized)
	owner := last
	owner.P1 = 0x94
	expect(owner, ck.SWIncorrectP1)
	for n := range last.Data {
		short := last
		short.Data = last.Data[:n]
		if r, _ := f.Do(ctx, short); r.SW != apdu.SWWrongLength {
			t.Errorf("%d bytes of data → %v", n, r.SW)
		}
	}
	wide := last
	wide.Data = append(append(bytes.Clone(last.Data[:5]), 8), last.Data[6:]...)
	expect(wide, ck.SWKeySize)

	// pairs stay together and keep their size
	check(t, ck.ImportEncrypted(ctx, f, slots, good()))
	if err := ck.ImportEncrypted(ctx, f, ck.Slots{Private: 4, Public: 7}, good()); !errors.Is(err, ck.SWKeyPairing) {
		t.Errorf("torn pair: %v", err)
	}
	other := importOf(t, f, ck.ImportAESKWP, 16, fixedKeys()[2048])
	if err := ck.ImportEncrypted(ctx, f, slots, other); !errors.Is(err, ck.SWNotAllowed) {
		t.Errorf("another size: %v", err)
	}
	check(t, ck.ImportEncrypted(ctx, f, slots, good()))
}

func TestImportPlain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := getVectors(t)
	k := v.Signing.key()
	f := newCard(t, coolkey.Config{Variant: coolkey.Applet14}, "")
	field := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	private := bytes.Join([][]byte{{0, 3, 4, 0}, field(k.Primes[0].Bytes()), field(k.Primes[1].Bytes()),
		field(k.Precomputed.Qinv.Bytes()), field(k.Precomputed.Dp.Bytes()), field(k.Precomputed.Dq.Bytes())}, nil)
	public := bytes.Join([][]byte{{0, 1, 4, 0}, field(k.N.Bytes()), field([]byte{1, 0, 1})}, nil)
	pair := append([]byte{0, 9, 4, 0}, pkcs8Of(t, k).Bytes()...)
	id := ck.ObjectID{'K', '0'}
	store := func(b []byte) {
		must(apdu.RunAll(ctx, f, ck.ReplaceObjectEntries(ck.Channel(), id, ck.ImportObjectACL, b)))(t)
	}
	run := func(n, mate byte, acls string) string {
		return f.send(fmt.Sprintf("8432%02X%02X%02X4B300000%s", n, mate, 4+len(acls)/2, acls))
	}
	one := "000040008000" // nobody reads, authority writes, anybody without login uses
	store(private)
	if sw := run(20, 21, one); sw != "9000" {
		t.Fatalf("private key: %s", sw)
	}
	store(public)
	if sw := run(21, 20, one); sw != "9000" {
		t.Fatalf("public key: %s", sw)
	}
	store(pair)
	if sw := run(22, 23, one+one); sw != "9000" {
		t.Fatalf("pair: %s", sw)
	}
	for _, n := range []ck.KeyNumber{20, 22} {
		digest := sha256.Sum256(v.Signature.Message)
		sig := must(ck.Key{Number: n, Public: &k.PublicKey}.SignDigest(ctx, f, ck.Anonymous(), crypto.SHA256, digest[:]))(t)
		if !bytes.Equal(sig, v.Signature.Value) {
			t.Errorf("key %d signs %x", n, sig)
		}
	}
	list := must(ck.ListKeys(ctx, f))(t)
	if len(list) != 4 || list[0].Mate != 21 || list[1].Mate != 20 || list[2].Mate != 23 || list[0].ACL.Use != ck.ACLAnonymous {
		t.Errorf("keys %+v", list)
	}
	for name, tt := range map[string]struct {
		blob    []byte
		n, mate byte
		acls    string
		want    string
	}{
		"slot":      {private, 24, 0, one, "9C10"},
		"data":      {private, 10, 11, one[2:], "9C0F"},
		"pair":      {pair, 10, 11, one, "9C0F"},
		"pair slot": {pair, 10, 24, one + one, "9C11"},
		"encrypted": {append([]byte{1}, pair[1:]...), 10, 11, one + one, "9C05"},
		"type":      {[]byte{0, 2, 4, 0, 0}, 10, 11, one, "9C17"},
		"cut":       {private[:100], 10, 11, one, "9C0F"},
		"bits":      {append([]byte{0, 1, 8, 0}, public[4:]...), 10, 11, one, "9C1A"},
		"torn":      {private, 20, 11, one, "9C1E"},
		"mate":      {private, 10, 21, one, "9C1E"},
		"size":      {private, 21, 20, one, "9C03"},
		"short":     {[]byte{0, 1}, 10, 11, one, "9C0F"},
	} {
		store(tt.blob)
		if got := run(tt.n, tt.mate, tt.acls); got != tt.want {
			t.Errorf("case=%s: %s, want %s", name, got, tt.want)
		}
	}
	f.want("B032200012 4B310000 000040008000"+zeros(8), "9C10")
	f.want("B0320A0012 4B310000 000040008000"+zeros(8), "9C07")
	f.want("B0320A0012 4B300000 000040008000"+zeros(8), "9C06")
	stub := newCard(t, coolkey.Config{Variant: coolkey.Applet15}, "")
	stub.want("8432020300", "9000")
	stub.want("B03A00000B", "9000")
}
