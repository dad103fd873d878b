package gp

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"inkan/apdu"
)

// FactoryKeyVersion is the version that many cards report for their initial keys.
const FactoryKeyVersion KeyVersion = 0xFF

// PutKeyCommand is PUT KEY of a complete set, first key identifier 1. old is the
// version to be replaced, 00 to add a set; the factory version FF is written 00,
// since it is no valid reference. data is the data field as the key service
// makes it: new version and three key blocks, at most 255 bytes.
func PutKeyCommand(d Dialect, old KeyVersion, data []byte) (apdu.Command, error) {
	if old == FactoryKeyVersion {
		old = 0
	}
	switch {
	case old > 0x7F:
		return apdu.Command{}, fmt.Errorf("putting keys: replaced version %v", old)
	case len(data) < 2 || len(data) > apdu.MaxShortData:
		return apdu.Command{}, fmt.Errorf("putting keys: data of %d bytes", len(data))
	}
	return command(0xD8, byte(old), 0x81, data, d.ne()), nil
}

// PutKeyAnswer is what a card answers to PUT KEY. A card may leave out the check
// values, or everything.
type PutKeyAnswer struct {
	KeyVersion KeyVersion // 00 where the card answered nothing
	KCVs       []KCV      // in the order of the keys; nil where left out
}

// ParsePutKeyAnswer reads the data of an answer to PUT KEY.
func ParsePutKeyAnswer(b []byte) (PutKeyAnswer, error) {
	if len(b) == 0 {
		return PutKeyAnswer{}, nil
	}
	a := PutKeyAnswer{KeyVersion: KeyVersion(b[0])}
	rest := b[1:]
	if len(rest) == 1 && rest[0] == 0 { // public key: empty check value
		return a, nil
	}
	if len(rest)%3 != 0 {
		return PutKeyAnswer{}, fmt.Errorf("answer to PUT KEY of %d bytes", len(b))
	}
	for ; len(rest) > 0; rest = rest[3:] {
		a.KCVs = append(a.KCVs, KCV(rest[:3]))
	}
	return a, nil
}

// Errors of [PutKeyAnswer.Check].
var (
	ErrPutKeyVersion = errors.New("card confirmed another key version")
	ErrPutKeyKCV     = errors.New("card confirmed other key check values")
)

// Check compares the answer with what was sent. What the card left out is not
// held against it: only the next channel proves the keys.
func (a PutKeyAnswer) Check(want KeyVersion, kcvs []KCV) error {
	if a.KeyVersion == 0 {
		return nil
	}
	if a.KeyVersion != want {
		return fmt.Errorf("%w: %v, want %v", ErrPutKeyVersion, a.KeyVersion, want)
	}
	if len(a.KCVs) == 0 {
		return nil
	}
	if len(a.KCVs) != len(kcvs) {
		return fmt.Errorf("%w: %d values, want %d", ErrPutKeyKCV, len(a.KCVs), len(kcvs))
	}
	same := 1
	for i := range kcvs {
		same &= subtle.ConstantTimeCompare(a.KCVs[i][:], kcvs[i][:])
	}
	if same != 1 {
		return ErrPutKeyKCV
	}
	return nil
}
