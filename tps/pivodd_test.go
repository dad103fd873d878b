package tps_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/token"
)

// oddCard answers some commands itself; nil leaves them to the card.
type oddCard struct {
	*sim.Card
	answer func(cmd []byte) []byte
}

func (o oddCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if r := o.answer(cmd); r != nil {
		return r, nil
	}
	return o.Card.Transmit(ctx, cmd)
}

// lostAnswer is a card that runs a command and then fails to say so, once.
func lostAnswer(t *testing.T, card *sim.Card, ins byte) oddCard {
	t.Helper()
	lost := false
	return oddCard{card, func(cmd []byte) []byte {
		if lost || cmd[1] != ins {
			return nil
		}
		lost = true
		_, err := card.Transmit(t.Context(), cmd)
		must(t, err)
		return []byte{0x6F, 0x00}
	}}
}

// TestPIVFull: a card without room says so, and is enrolled once there is room.
func TestPIVFull(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", nil))
	card := newCard(t, "yubikey-5.4")
	_, err := s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
		if cmd[1] == piv.InsPutData && cmd[0]&0x10 == 0 {
			return []byte{0x6A, 0x84}
		}
		return nil
	}})
	wantStatus(t, err, tps.StatusEnroll)
	if !strings.Contains(err.Error(), "the card is full") {
		t.Error(err)
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	s.wantPIV(card, "7351924")
}

// TestPIVNonsense: whatever a card answers to a command, the operation ends, and the
// same card is served when it has come to its senses. All of it with INKAN_REAL.
func TestPIVNonsense(t *testing.T) {
	t.Parallel()
	ok := []byte{0x90, 0x00}
	for turn, ins := range []byte{piv.InsMetadata, piv.InsVersion, piv.InsSerial, piv.InsGetData, piv.InsAuthenticate, piv.InsGenerate, piv.InsSelect, piv.InsVerify, piv.InsPutData} {
		for i, nonsense := range [][]byte{
			ok, {0x53, 0x00, 0x90, 0x00}, {0x7C, 0x7F, 0x00, 0x90, 0x00}, append(bytes.Repeat([]byte{0xFF}, 200), ok...),
			{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x90, 0x00}, {0x6F, 0x00}, {0x6D, 0x00}, {0x61}, nil,
		} {
			if !everything() && (i+turn)%3 != 0 {
				continue // a sample, of each command another one
			}
			t.Run(fmt.Sprintf("ins=%02X/%d", ins, i), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.put(pivProfile("test", nil))
				card := newCard(t, "yubikey-5.7")
				calls := 0
				_, first := s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
					if cmd[1] != ins {
						return nil
					}
					if calls++; calls > 40 || nonsense == nil && calls%2 == 0 {
						return nil
					}
					if nonsense == nil {
						return []byte{0x69, 0x85}
					}
					return nonsense
				}})
				if _, err := s.run(tps.OpEnroll, card); err != nil {
					t.Fatalf("first %v; then %v", first, err)
				}
				s.wantPIV(card, "7351924")
			})
		}
	}
}

// TestPIVOtherKey: a card that tells another public key than that of the pair it made
// gets no certificate.
func TestPIVOtherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", nil))
	card := newCard(t, "yubikey-5.7")
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	_, err = s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
		if cmd[1] != piv.InsGenerate {
			return nil
		}
		if _, err := card.Transmit(t.Context(), cmd); err != nil {
			t.Error(err)
		}
		return append(tlv.Encode(0x7F49, tlv.Encode(0x86, other.PublicKey().Bytes())), 0x90, 0x00)
	}})
	wantStatus(t, err, tps.StatusEnroll)
	if !strings.Contains(err.Error(), "the card does not prove that it has the key") {
		t.Error(err)
	}
	certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
	if must(t, err); len(certs) > 0 {
		t.Errorf("%d certificates were issued", len(certs))
	}
}

// TestPIVUnknownTags: a card that tells more than this program knows is served.
func TestPIVUnknownTags(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", nil))
	card := newCard(t, "yubikey-5.7")
	_, err := s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
		if cmd[1] != piv.InsMetadata {
			return nil
		}
		r, err := card.Transmit(t.Context(), cmd)
		if err != nil || !bytes.HasSuffix(r, []byte{0x90, 0x00}) {
			return r
		}
		return append(append(r[:len(r)-2:len(r)-2], 0x7A, 0x01, 0x55), 0x90, 0x00)
	}})
	must(t, err)
	s.wantPIV(card, "7351924")
}

// TestPIVByGUID: a card that tells no serial number is known by its GUID, keeps it, and
// is not reset, because nobody would know it again.
func TestPIVByGUID(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", nil))
	card := newCard(t, "yubikey-5.4")
	guid := [16]byte{0: 7, 15: 9}
	must(t, piv.PutData(t.Context(), managed(t, card, piv.TripleDES), piv.CHUIDObject, piv.CHUID{FASCN: piv.NonFederal, GUID: guid, Expiry: "20300101"}.Encode()))
	mute := oddCard{card, func(cmd []byte) []byte {
		if cmd[1] == piv.InsSerial {
			return []byte{0x6D, 0x00}
		}
		return nil
	}}
	_, err := s.run(tps.OpEnroll, mute)
	must(t, err)
	h := sha256.Sum256(guid[:])
	cuid := apdu.CUID(append([]byte{0xFF, 0xFF}, h[:8]...))
	rec, err := s.db.Token(t.Context(), cuid)
	must(t, err)
	if rec.State != token.Active || rec.AppletKeys.Set != "piv" {
		t.Errorf("record %+v", rec)
	}
	b, err := piv.GetData(t.Context(), pivCard(t, card), piv.CHUIDObject)
	must(t, err)
	if c, err := piv.ParseCHUID(b); err != nil || c.GUID != guid {
		t.Errorf("CHUID %+v, %v", c, err)
	}
	_, err = s.run(tps.OpPINReset, mute)
	must(t, err)
	_, err = s.run(tps.OpFormat, mute)
	wantStatus(t, err, tps.StatusDisabledToken)
	bare := newCard(t, "yubikey-5.4")
	_, err = s.run(tps.OpEnroll, oddCard{bare, mute.answer})
	wantStatus(t, err, tps.StatusSecureChannel)
}

// TestPIVByOTP: a YubiKey 4 tells its serial number in another application than PIV, and
// nothing of its keys, PIN and PUK. It is enrolled and served like others.
func TestPIVByOTP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", nil))
	card := newCard(t, "yubikey-5.4")
	old := oddCard{card, func(cmd []byte) []byte {
		switch {
		case cmd[1] == piv.InsSerial, cmd[1] == piv.InsMetadata:
			return []byte{0x6D, 0x00}
		case cmd[1] == piv.InsVersion:
			return []byte{4, 3, 5, 0x90, 0x00}
		case bytes.HasPrefix(cmd, []byte{0x00, 0xA4, 0x04, 0x00, 0x08, 0xA0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01, 0x01}):
			return []byte{4, 3, 5, 0x90, 0x00}
		case bytes.HasPrefix(cmd, []byte{0x00, 0x01, 0x10, 0x00}):
			return []byte{0x00, 0x5E, 0xA1, 0x07, 0x90, 0x00}
		}
		return nil
	}}
	for _, op := range []tps.Operation{tps.OpEnroll, tps.OpPINReset, tps.OpRenew, tps.OpFormat, tps.OpEnroll} {
		_, err := s.run(op, old)
		must(t, err)
	}
	rec, err := s.db.Token(t.Context(), piv.SerialCUID(0x005EA107))
	must(t, err)
	if rec.State != token.Active {
		t.Errorf("record %+v", rec)
	}
}

// TestPIVProtectedKey: printed information is not written where a card keeps its
// management key.
func TestPIVProtectedKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := enrolledPIV(t, s, "yubikey-5.7", nil)
	printed := func() []byte {
		d := pivCard(t, card)
		must(t, piv.VerifyPIN(t.Context(), d, pinOf(t, "7351924")))
		b, err := piv.GetData(t.Context(), d, piv.PrintedInformation)
		must(t, err)
		return b
	}
	p, err := piv.ParsePrinted(printed())
	must(t, err)
	if p.Name != "Ada Lovelace" || p.Serial != card.Info().CUID.String() || len(p.Expiry) != 9 {
		t.Errorf("printed %+v", p)
	}
	cuid := card.Info().CUID
	rec, err := s.db.Token(t.Context(), cuid)
	must(t, err)
	rep, err := s.local.CardSecret(t.Context(), tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: cuid, Use: tks.ManagementKey, Algorithm: rec.AppletKeys.Algorithm})
	must(t, err)
	d := pivCard(t, card)
	must(t, piv.Authenticate(t.Context(), d, piv.Algorithm(rec.AppletKeys.Algorithm), rep.Secret))
	there := append([]byte{0x88, 0x1A, 0x89, 0x18}, bytes.Repeat([]byte{7}, 24)...)
	must(t, piv.PutData(t.Context(), d, piv.AdminData, []byte{0x80, 3, 0x81, 1, 2}))
	must(t, piv.PutData(t.Context(), d, piv.PrintedInformation, there))
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	if got := printed(); !bytes.Equal(got, there) {
		t.Errorf("the printed information was written over: %X", got)
	}
}
