package gp

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Card manager AIDs that hosts try (GlobalPlatform 2.3.1 appendix H; Open Platform 2.0.1).
var (
	AIDIssuerDomain     = apdu.MustAID("A000000151000000")
	AIDIssuerDomainGP21 = apdu.MustAID("A0000001510000")
	AIDCardManager      = apdu.MustAID("A000000003000000")
	AIDCardManagerShort = apdu.MustAID("A0000000030000")
)

// FCI is the answer to SELECT (GlobalPlatform 2.3.1 §11.9.3.1).
type FCI struct {
	AID         apdu.AID    // tag 84; empty where the application names none
	MaxData     int         // tag 9F65: most data bytes of a command; 0 = not told
	Recognition Recognition // tag 73; zero where absent
	Locked      bool        // status 6283: the card is locked, only its manager answers
	Raw         []byte
}

// SelectCommand is SELECT by name, first occurrence; the empty AID selects the
// default application.
func SelectCommand(aid apdu.AID) apdu.Command {
	return apdu.Command{CLA: 0x00, INS: 0xA4, P1: 0x04, P2: 0x00, Data: aid.Bytes(), Ne: apdu.MaxShortNe}
}

// Select selects an application, the default one for the empty AID. An answer
// that is no FCI is no error (applets answer what they like): the FCI is then
// empty but for Raw.
func Select(ctx context.Context, d apdu.Doer, aid apdu.AID) (FCI, error) {
	cmd := SelectCommand(aid)
	r, err := d.Do(ctx, cmd)
	if err != nil {
		return FCI{}, fmt.Errorf("selecting %v: %w", aid, err)
	}
	if r.SW != apdu.SWCardLocked {
		if err := r.Check(cmd); err != nil {
			return FCI{}, fmt.Errorf("selecting %v: %w", aid, err)
		}
	}
	fci, err := ParseFCI(r.Data)
	if err != nil {
		fci = FCI{Raw: append([]byte(nil), r.Data...)}
	}
	fci.Locked = r.SW == apdu.SWCardLocked
	return fci, nil
}

// managers are the card managers that SelectDefault asks for, in this order.
var managers = []apdu.AID{AIDIssuerDomain, AIDCardManager, AIDIssuerDomainGP21, AIDCardManagerShort}

// SelectDefault selects what the card selects by itself. A card that wants an AID
// is asked for its manager under the usual ones; the FCI then has the one that it
// answered to. What no card has is the refusal of the first SELECT.
func SelectDefault(ctx context.Context, d apdu.Doer) (FCI, error) {
	fci, refusal := Select(ctx, d, apdu.AID{})
	var sw apdu.StatusWord
	if refusal == nil || !errors.As(refusal, &sw) {
		return fci, refusal
	}
	for _, aid := range managers {
		fci, err := Select(ctx, d, aid)
		if err == nil && fci.AID.Len() == 0 {
			fci.AID = aid
		}
		if err == nil || !errors.As(err, &sw) {
			return fci, err
		}
	}
	return FCI{}, refusal
}

// ParseFCI reads a file control information template. Raw is a copy of b.
func ParseFCI(b []byte) (FCI, error) {
	tmpl, ok := tlv.Find(b, 0x6F)
	if !ok {
		return FCI{}, errors.New("parsing FCI: no tag 6F")
	}
	fci := FCI{Raw: append([]byte(nil), b...)}
	if v, ok := tlv.Find(tmpl, 0x84); ok {
		aid, err := apdu.NewAID(v)
		if err != nil {
			return FCI{}, fmt.Errorf("parsing FCI: %w", err)
		}
		fci.AID = aid
	}
	if v, ok := tlv.Find(tmpl, 0xA5, 0x9F65); ok && len(v) <= 2 {
		fci.MaxData = bigEndian(v)
	}
	if v, ok := tlv.Find(tmpl, 0xA5, 0x73); ok {
		fci.Recognition, _ = parseRecognition(v) // a card's decoration, read again from tag 66
	}
	return fci, nil
}

// bigEndian reads at most three bytes.
func bigEndian(b []byte) int {
	n := 0
	for _, c := range b {
		n = n<<8 | int(c)
	}
	return n
}
