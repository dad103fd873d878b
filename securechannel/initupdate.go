package securechannel

import (
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

var errInitUpdate = errors.New("malformed answer to INITIALIZE UPDATE")

// Lengths in an answer to INITIALIZE UPDATE (secure channel specifications:
// 2.2.1 §D.4.1.4 and §E.5.1.4, Amendment D §7.1.1).
const (
	kddLen     = 10
	headLen    = kddLen + 2 // KDD, key version, protocol or key index
	counter02  = 2
	counter03  = 3
	length0102 = headLen + 8 + 8
)

// ParseInitializeUpdate decodes the data of an answer to INITIALIZE UPDATE. req
// tells what was asked, and the protocol and option where the answer does not.
// What comes back has copies. A protocol that is not implemented is
// apdu.ErrUnsupported.
func ParseInitializeUpdate(data []byte, req Request) (InitUpdate, error) {
	if len(data) < length0102 {
		return InitUpdate{}, fmt.Errorf("%w: %d bytes", errInitUpdate, len(data))
	}
	iu := InitUpdate{
		KDD: gp.KDD(data[:kddLen]), KeyVersion: gp.KeyVersion(data[kddLen]), Protocol: Protocol(data[kddLen+1]),
		HostChallenge: append(HostChallenge(nil), req.HostChallenge...),
	}
	rest := append([]byte(nil), data[headLen:]...)
	var err error
	switch {
	case iu.Protocol == SCP01, req.HintProtocol == SCP01 && iu.Protocol != SCP02 && iu.Protocol != SCP03:
		// An Open Platform 2.0.1 card answers its key index where others name the
		// protocol.
		iu.Protocol, iu.KeyIndex = SCP01, uint8(iu.Protocol)
		err = iu.parse01(rest, req)
	case iu.Protocol == SCP02:
		err = iu.parse02(rest, req)
	case iu.Protocol == SCP03:
		err = iu.parse03(rest)
	default:
		return InitUpdate{}, fmt.Errorf("%v: %w", iu.Protocol, apdu.ErrUnsupported)
	}
	if err != nil {
		return InitUpdate{}, err
	}
	return iu, CheckOption(iu.Protocol, iu.Option)
}

// Options that are taken where neither the answer nor the request names one.
const (
	defaultOption01 Option = 0x05
	defaultOption02 Option = 0x15
)

func (iu *InitUpdate) parse01(rest []byte, req Request) error {
	if len(rest) != 8+8 || len(iu.HostChallenge) != 8 {
		return fmt.Errorf("%w: %d bytes for %v", errInitUpdate, headLen+len(rest), SCP01)
	}
	iu.Option = defaultOption01
	if req.HintProtocol == SCP01 {
		iu.Option = req.HintOption
	}
	iu.CardChallenge, iu.CardCryptogram = rest[:8:8], rest[8:]
	return nil
}

func (iu *InitUpdate) parse02(rest []byte, req Request) error {
	if len(rest) != counter02+6+8 || len(iu.HostChallenge) != 8 {
		return fmt.Errorf("%w: %d bytes for %v", errInitUpdate, headLen+len(rest), SCP02)
	}
	iu.Option = defaultOption02
	if req.HintProtocol == SCP02 {
		iu.Option = req.HintOption
	}
	iu.Counter, rest = rest[:2:2], rest[2:]
	iu.CardChallenge, iu.CardCryptogram = rest[:6:6], rest[6:]
	return nil
}

func (iu *InitUpdate) parse03(rest []byte) error {
	iu.Option = Option(rest[0])
	if err := CheckOption(SCP03, iu.Option); err != nil {
		return err
	}
	o, n := scp03.Option(iu.Option), size(SCP03, iu.Option)
	want := 1 + 2*n
	if o&scp03.PseudoRandom != 0 {
		want += counter03
	}
	if len(rest) != want || len(iu.HostChallenge) != n {
		return fmt.Errorf("%w: %d bytes for %v i=%v and a host challenge of %d",
			errInitUpdate, headLen+len(rest), SCP03, iu.Option, len(iu.HostChallenge))
	}
	rest = rest[1:]
	iu.CardChallenge, iu.CardCryptogram, iu.Counter = rest[:n:n], rest[n:2*n:2*n], rest[2*n:]
	return nil
}

// encodeInitUpdate is the card's answer data.
func encodeInitUpdate(iu InitUpdate) []byte {
	b := append(iu.KDD[:], byte(iu.KeyVersion), byte(iu.Protocol))
	if iu.Protocol == SCP03 {
		b = append(b, byte(iu.Option))
		b = append(append(b, iu.CardChallenge...), iu.CardCryptogram...)
		return append(b, iu.Counter...)
	}
	b = append(append(b, iu.Counter...), iu.CardChallenge...)
	return append(b, iu.CardCryptogram...)
}

// cardCryptogram is the value with which the card of iu has to prove itself.
func cardCryptogram(iu InitUpdate, k SessionKeys) ([]byte, error) {
	switch iu.Protocol {
	case SCP01:
		return scp01.CardCryptogram(k.ENC.Bytes(), iu.HostChallenge, iu.CardChallenge)
	case SCP02:
		return scp02.CardCryptogram(k.ENC.Bytes(), iu.HostChallenge, iu.challenge02())
	case SCP03:
		return scp03.CardCryptogram(k.MAC.Bytes(), iu.HostChallenge, iu.CardChallenge)
	}
	return nil, fmt.Errorf("%v: %w", iu.Protocol, apdu.ErrUnsupported)
}

// hostCryptogram is the value with which the host proves itself to the card.
func hostCryptogram(iu InitUpdate, k SessionKeys) ([]byte, error) {
	switch iu.Protocol {
	case SCP01:
		return scp01.HostCryptogram(k.ENC.Bytes(), iu.HostChallenge, iu.CardChallenge)
	case SCP02:
		return scp02.HostCryptogram(k.ENC.Bytes(), iu.HostChallenge, iu.challenge02())
	case SCP03:
		return scp03.HostCryptogram(k.MAC.Bytes(), iu.HostChallenge, iu.CardChallenge)
	}
	return nil, fmt.Errorf("%v: %w", iu.Protocol, apdu.ErrUnsupported)
}

// challenge02 is the card challenge of SCP02 as it enters cryptograms: counter
// and challenge as transmitted.
func (iu InitUpdate) challenge02() []byte {
	return append(append(make([]byte, 0, 8), iu.Counter...), iu.CardChallenge...)
}

// VerifyCard checks the card cryptogram of iu against session keys, in constant
// time. The error is [ErrCryptogram]. Nothing but ENC (SCP01, SCP02) or MAC
// (SCP03) is looked at.
func VerifyCard(iu InitUpdate, k SessionKeys) error {
	want, err := cardCryptogram(iu, k)
	if err != nil {
		return fmt.Errorf("verifying card cryptogram: %w", err)
	}
	if !equal(want, iu.CardCryptogram) {
		return ErrCryptogram
	}
	return nil
}
