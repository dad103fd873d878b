package gp_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/sim/gp"
)

// pkgAndApp are a load file and its application, on the card from birth.
var pkgAndApp = gp.PresetApplet{LoadFile: apdu.MustAID("D0D1D2D3D4D501"), Module: apdu.MustAID("D0D1D2D3D4D50101"), Instance: apdu.MustAID("D0D1D2D3D4D50101")}

// TestQuirks shows what a card with a deviation does, and the same card without.
func TestQuirks(t *testing.T) {
	const file = "4F07D0D1D2D3D4D501"
	for _, c := range []struct {
		name       string
		quirks     gp.Quirks
		odd, plain []step
	}{
		{"empty select", gp.Quirks{EmptySelect: 0x6A87},
			[]step{{"00A4040000", "", 0x6A87}, {"00A40400#A000000151", "*", 0x9000}},
			[]step{{"00A4040000", "*", 0x9000}}},
		{"absent", gp.Quirks{Absent: []uint16{0x0066, 0x9F7F}},
			[]step{{"80CA006600", "", 0x6A88}, {"80CA9F7F00", "", 0x6A88}, {"80CA00CF00", "*", 0x9000}},
			[]step{{"80CA006600", "*", 0x9000}, {"80CA9F7F00", "*", 0x9000}}},
		{"class 00", gp.Quirks{DataClass00: true},
			[]step{{"80CA9F7F00", "", 0x6E00}, {"00CA9F7F00", "*", 0x9000}},
			[]step{{"80CA9F7F00", "*", 0x9000}, {"00CA9F7F00", "*", 0x9000}}},
		{"untagged", gp.Quirks{Untagged: true},
			[]step{{"80F28002024F0000", "", 0x6A86}, {"80F21000024F0000", "", 0x6A86}, {"80F28000024F0000", "08A000000151000000019E", 0x9000}},
			[]step{{"80F28002024F0000", "*", 0x9000}, {"80F21000024F0000", "*", 0x9000}}},
		{"no receipt", gp.Quirks{NoReceipt: true},
			[]step{{"80E40080#" + file, "", 0x9000}}, []step{{"80E40080#" + file, "00", 0x9000}}},
		{"type of DES keys", gp.Quirks{DESType: 0x82},
			[]step{{"80CA00E000", "E012C00401018810C00402018810C00403018810", 0x9000}},
			[]step{{"80CA00E000", "E012C00401018810C00402018810C00403018810", 0x9000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for steps, q := range map[*[]step]gp.Quirks{&c.odd: c.quirks, &c.plain: {}} {
				p := profile(t, securechannel.SCP03, 0x70)
				p.Applets, p.Quirks = []gp.PresetApplet{pkgAndApp}, q
				m := newManager(t, p, gp.Config{})
				openWith(t, m, unhex(t, testKey), 0)
				runSteps(t, m, *steps)
			}
		})
	}
	p := profile(t, securechannel.SCP02, 0x15)
	p.Quirks.DESType = 0x82
	runSteps(t, newManager(t, p, gp.Config{}), []step{{"80CA00E000", "E012C00401018210C00402018210C00403018210", 0x9000}})
}

// TestQuirkPutKey: what PUT KEY answers, and what becomes of the factory keys.
func TestQuirkPutKey(t *testing.T) {
	for answer, want := range map[gp.PutKeyAnswer]int{gp.AnswerKCVs: 10, gp.AnswerVersion: 1, gp.AnswerNothing: 0} {
		for _, keep := range []bool{false, true} {
			p := profile(t, securechannel.SCP03, 0x70)
			p.Keys[0].Version = 0xFF
			p.Quirks = gp.Quirks{PutKey: answer, KeepFactory: keep}
			m := newManager(t, p, gp.Config{})
			openWith(t, m, unhex(t, testKey), 0)
			r := putKey(m, 0, payload(t, 2, unhex(t, testKey), unhex(t, testKey)))
			if r.SW != apdu.SWSuccess || len(r.Data) != want || want > 0 && r.Data[0] != 2 {
				t.Errorf("answer %d: %v", answer, r)
			}
			info, err := agp.ReadKeyInfo(t.Context(), doer{m})
			if err != nil || slices.Contains(agp.KeyVersions(info), 0xFF) != keep || !slices.Contains(agp.KeyVersions(info), 2) {
				t.Errorf("keep=%v: versions %v, %v", keep, agp.KeyVersions(info), err)
			}
		}
	}
}

// recorder keeps what the card answered last, secure messaging included.
type recorder struct {
	doer
	last apdu.Response
}

// Do implements apdu.Doer.
func (r *recorder) Do(ctx context.Context, c apdu.Command) (apdu.Response, error) {
	var err error
	r.last, err = r.doer.Do(ctx, c)
	return r.last, err
}

// TestQuirkChannel: deviations of secure messaging. The host that knows of them,
// where it has to, goes on; the others see what is wrong.
func TestQuirkChannel(t *testing.T) {
	status := agp.GetDataCommand(agp.TagKeyInfo)
	missing := agp.GetDataCommand(0x42)
	open := func(t *testing.T, q gp.Quirks, req securechannel.Request) (*recorder, *securechannel.Session) {
		p := profile(t, req.HintProtocol, req.HintOption)
		p.Quirks = q
		r := &recorder{doer: doer{newManager(t, p, gp.Config{})}}
		req.HostChallenge = []byte("hostchal")
		s, err := securechannel.Open(t.Context(), r, req, keySource(unhex(t, testKey)))
		if err != nil {
			t.Fatal(err)
		}
		return r, s
	}
	scp03 := func(l securechannel.Level) securechannel.Request {
		return securechannel.Request{HintProtocol: securechannel.SCP03, HintOption: 0x70, Level: l}
	}
	t.Run("error R-MAC", func(t *testing.T) {
		for _, has := range []bool{false, true} {
			card, s := open(t, gp.Quirks{ErrorRMAC: has}, securechannel.Request{HintProtocol: securechannel.SCP02, HintOption: 0x75, Level: securechannel.LevelCMACRMAC})
			for range 2 { // the chain of R-MACs goes on behind the error
				r, err := s.Do(t.Context(), missing)
				if err != nil || r.SW != apdu.SWReferencedNotFound || len(r.Data) != 0 || (len(card.last.Data) == 8) != has {
					t.Errorf("error with R-MAC %v: %v, %v", has, r, err)
				}
				if _, err := apdu.Run(t.Context(), s, status); err != nil {
					t.Errorf("error with R-MAC %v: %v", has, err)
				}
			}
		}
	})
	t.Run("counter", func(t *testing.T) {
		list := apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x80, P2: 0x02, Data: []byte{0x4F, 0x00}, Ne: 256}
		for d, works := range map[securechannel.Dialect]bool{0: false, securechannel.CounterWithDataOnly: true} {
			req := scp03(securechannel.LevelCENC)
			req.Dialect = d
			_, s := open(t, gp.Quirks{DataCounter: true}, req)
			for _, c := range []apdu.Command{status, list} {
				r, err := s.Do(t.Context(), c)
				if good := err == nil && r.SW == apdu.SWSuccess; good != (works || c.INS == status.INS) {
					t.Errorf("dialect %v, command %02X: %v, %v", d, c.INS, r, err)
				}
			}
		}
	})
	t.Run("long padding", func(t *testing.T) {
		plain, s := open(t, gp.Quirks{}, scp03(securechannel.LevelFull))
		want, err := apdu.Run(t.Context(), s, status)
		if err != nil {
			t.Fatal(err)
		}
		odd, s := open(t, gp.Quirks{LongPadding: true}, scp03(securechannel.LevelFull))
		got, err := apdu.Run(t.Context(), s, status)
		if err != nil || !bytes.Equal(got, want) || len(odd.last.Data) != len(plain.last.Data)+16 {
			t.Errorf("got %X in %d bytes, %v, want %X in %d", got, len(odd.last.Data), err, want, len(plain.last.Data))
		}
	})
	t.Run("MAC error", func(t *testing.T) {
		for q, want := range map[apdu.StatusWord]apdu.StatusWord{0: 0x6982, 0x6988: 0x6988, 0x6987: 0x6987} {
			card, _ := open(t, gp.Quirks{MACError: q}, scp03(securechannel.LevelCMAC))
			runSteps(t, card.m, []step{{"84F280020A4F00000000000000000000", "", want}})
		}
	})
}

func TestQuirksRefused(t *testing.T) {
	for name, q := range map[string]gp.Quirks{
		"type of an AES key": {DESType: 0x88}, "no refusal": {EmptySelect: 0x6100}, "no such answer": {PutKey: 9},
	} {
		p := profile(t, securechannel.SCP02, 0x15)
		p.Quirks = q
		if _, err := gp.New(p, gp.Config{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestOddities(t *testing.T) {
	if got := (gp.Quirks{}).Oddities(); got != nil {
		t.Errorf("a card without quirks has %v", got)
	}
	all := gp.Quirks{
		MACError: 0x6988, T0: true, Response61: true, DataCounter: true, ErrorRMAC: true, LongPadding: true, EmptySelect: 0x6A87,
		Absent: []uint16{0x66}, DataClass00: true, Untagged: true, NoReceipt: true, PutKey: gp.AnswerVersion, DESType: 0x81, KeepFactory: true,
	}
	seen := map[string]bool{}
	for _, o := range all.Oddities() {
		if seen[o.Name] || o.Text == "" {
			t.Errorf("%+v", o)
		}
		seen[o.Name] = true
	}
	if len(seen) != 14 {
		t.Errorf("%d quirks are told: %v", len(seen), seen)
	}
}
