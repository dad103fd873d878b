package tkstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
	"inkan/tks"
)

// Card is a card as the key service sees it: it answers INITIALIZE UPDATE with
// proofs and takes PUT KEY data. Not safe for concurrent use.
type Card struct {
	tks.CardProof // KeySet, CUID, KDD, Protocol, Option, KeyVersion of the present keys
	keys          keyset.Set
	counter       byte
}

// NewCard returns a card of random identity with the published factory keys.
func NewCard(p securechannel.Protocol, o securechannel.Option) *Card {
	c := &Card{CardProof: tks.CardProof{KeySet: tks.Factory, Protocol: p, Option: o, KeyVersion: 0xFF}}
	rand.Read(c.CUID[:])
	rand.Read(c.KDD[:])
	published := func() secret.Secret { return secret.New([]byte("@ABCDEFGHIJKLMNO")) } // 40…4F
	c.keys = keyset.Set{Type: keyset.DES, ENC: published(), MAC: published(), DEK: published()}
	if p == securechannel.SCP03 {
		c.keys.Type = keyset.AES
	}
	return c
}

// NewCardWith returns a card of random identity whose three keys are of a maker's
// key set, all of one value.
func NewCardWith(p securechannel.Protocol, o securechannel.Option, set tks.KeySetName, v gp.KeyVersion, value secret.Secret) *Card {
	c := NewCard(p, o)
	c.KeySet, c.KeyVersion = set, v
	c.keys.ENC, c.keys.MAC, c.keys.DEK = value.Clone(), value.Clone(), value.Clone()
	return c
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Proof is the card's answer to a new INITIALIZE UPDATE.
func (c *Card) Proof(t testing.TB) tks.CardProof {
	t.Helper()
	p := c.CardProof
	c.counter++
	var err error
	switch p.Protocol {
	case securechannel.SCP01:
		p.KeyIndex, p.HostChallenge, p.CardChallenge = 1, random(8), random(8)
		senc, kerr := scp01.SessionKey(c.keys.ENC.Bytes(), p.HostChallenge, p.CardChallenge)
		if kerr != nil {
			t.Fatal(kerr)
		}
		p.CardCryptogram, err = scp01.CardCryptogram(senc, p.HostChallenge, p.CardChallenge)
	case securechannel.SCP02:
		p.HostChallenge, p.CardChallenge, p.Counter = random(8), random(6), []byte{0, c.counter}
		senc, kerr := scp02.SessionKey(c.keys.ENC.Bytes(), scp02.SENC, [2]byte(p.Counter))
		if kerr != nil {
			t.Fatal(kerr)
		}
		p.CardCryptogram, err = scp02.CardCryptogram(senc, p.HostChallenge, append(bytes.Clone(p.Counter), p.CardChallenge...))
	default:
		o := scp03.Option(p.Option)
		p.HostChallenge, p.CardChallenge = random(o.Size()), random(o.Size())
		if o&scp03.PseudoRandom != 0 {
			p.Counter = []byte{0, 0, c.counter}
		}
		smac, kerr := scp03.SessionKey(c.keys.MAC.Bytes(), scp03.SMAC, scp03.Context(p.HostChallenge, p.CardChallenge))
		if kerr != nil {
			t.Fatal(kerr)
		}
		p.CardCryptogram, err = scp03.CardCryptogram(smac, p.HostChallenge, p.CardChallenge)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Session is what the card computes for the session of a proof.
func (c *Card) Session(t testing.TB, p tks.CardProof) tks.SessionReply {
	t.Helper()
	must := func(b []byte, err error) secret.Secret {
		if err != nil {
			t.Fatal(err)
		}
		return secret.New(b)
	}
	var r tks.SessionReply
	switch p.Protocol {
	case securechannel.SCP01:
		r.ENC = must(scp01.SessionKey(c.keys.ENC.Bytes(), p.HostChallenge, p.CardChallenge))
		r.MAC = must(scp01.SessionKey(c.keys.MAC.Bytes(), p.HostChallenge, p.CardChallenge))
		return r
	case securechannel.SCP02:
		ctr := [2]byte(p.Counter)
		r.ENC = must(scp02.SessionKey(c.keys.ENC.Bytes(), scp02.SENC, ctr))
		r.MAC = must(scp02.SessionKey(c.keys.MAC.Bytes(), scp02.SMAC, ctr))
		if scp02.Option(p.Option)&scp02.RMAC != 0 {
			r.RMAC = must(scp02.SessionKey(c.keys.MAC.Bytes(), scp02.SRMAC, ctr))
		}
		return r
	}
	ctx := scp03.Context(p.HostChallenge, p.CardChallenge)
	r.ENC = must(scp03.SessionKey(c.keys.ENC.Bytes(), scp03.SENC, ctx))
	r.MAC = must(scp03.SessionKey(c.keys.MAC.Bytes(), scp03.SMAC, ctx))
	if scp03.Option(p.Option)&scp03.RMAC != 0 {
		r.RMAC = must(scp03.SessionKey(c.keys.MAC.Bytes(), scp03.SRMAC, ctx))
	}
	return r
}

// Decrypt is the card's decryption of sensitive data in the session of a proof.
func (c *Card) Decrypt(p tks.CardProof, ct []byte) ([]byte, error) {
	switch p.Protocol {
	case securechannel.SCP01:
		return scp01.DecryptDEK(c.keys.DEK.Bytes(), ct)
	case securechannel.SCP02:
		sdek, err := scp02.SessionKey(c.keys.DEK.Bytes(), scp02.SDEK, [2]byte(p.Counter))
		if err != nil {
			return nil, err
		}
		return scp02.DecryptDEK(sdek, ct)
	}
	b, err := aes.NewCipher(c.keys.DEK.Bytes())
	if err != nil {
		return nil, err
	}
	if len(ct) == 0 || len(ct)%16 != 0 {
		return nil, fmt.Errorf("%d bytes", len(ct))
	}
	out := make([]byte, len(ct))
	cipher.NewCBCDecrypter(b, make([]byte, 16)).CryptBlocks(out, ct)
	return out, nil
}

// PutKey gives the card the keys of a reply to the request with proof p. It
// checks version and check values as a card does.
func (c *Card) PutKey(t testing.TB, req tks.KeySetRequest, reply tks.KeySetReply) {
	t.Helper()
	put, err := keyset.Parse(reply.Data, func(ct []byte) ([]byte, bool) {
		b, err := c.Decrypt(req.CardProof, ct)
		return b, err == nil
	})
	if err != nil {
		t.Fatalf("PUT KEY data: %v", err)
	}
	set, ok := put.Set()
	if !ok || put.Version != req.NewKeyVersion {
		t.Fatalf("PUT KEY data of version %v with %d keys, want version %v", put.Version, len(put.Keys), req.NewKeyVersion)
	}
	if want := c.blockType(); set.Type != want {
		t.Fatalf("key blocks of type %v for a card of %v, want %v", set.Type, c.Protocol, want)
	}
	if err := keyset.CheckAnswer(put.Answer(), req.NewKeyVersion, reply.KCVs); err != nil {
		t.Fatalf("check values %v: %v", reply.KCVs, err)
	}
	c.keys, c.counter = set, 0
	c.KeySet, c.KeyVersion = req.NewKeySet, req.NewKeyVersion
}

// blockType is the type of key blocks that cards of the protocol take
// (secure-channel.md §7.2).
func (c *Card) blockType() keyset.Type {
	switch c.Protocol {
	case securechannel.SCP01:
		return keyset.DESLegacy
	case securechannel.SCP02:
		return keyset.DES
	}
	return keyset.AES
}

// Changeover moves the card to another key set through s.
func (c *Card) Changeover(t testing.TB, s tks.Service, set tks.KeySetName, v gp.KeyVersion) {
	t.Helper()
	req := tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: set, NewKeyVersion: v}
	reply, err := s.WrapKeySet(t.Context(), req)
	if err != nil {
		t.Fatalf("changeover %s %v to %s %v: %v", c.KeySet, c.KeyVersion, set, v, err)
	}
	c.PutKey(t, req, reply)
}

// Check opens a session through s and compares its keys with the card's.
func (c *Card) Check(t testing.TB, s tks.Service) {
	t.Helper()
	p := c.Proof(t)
	got, err := s.DeriveSession(t.Context(), tks.SessionRequest{CardProof: p})
	if err != nil {
		t.Errorf("session of %s %v: %v", c.KeySet, c.KeyVersion, err)
		return
	}
	want := c.Session(t, p)
	if !got.ENC.Equal(want.ENC) || !got.MAC.Equal(want.MAC) || !got.RMAC.Equal(want.RMAC) {
		t.Errorf("session keys of %v i=%v under %s %v are not the card's", c.Protocol, c.Option, c.KeySet, c.KeyVersion)
	}
}
