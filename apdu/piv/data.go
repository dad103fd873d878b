package piv

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Object is the tag of a data object (SP 800-73-4 part 1 table 3).
type Object uint32

// Data objects. Certificates: see [Slot.Certificate].
const (
	Discovery          Object = 0x7E
	BiometricGroup     Object = 0x7F61
	CHUIDObject        Object = 0x5FC102
	Fingerprints       Object = 0x5FC103
	SecurityObject     Object = 0x5FC106
	CCCObject          Object = 0x5FC107
	FacialImage        Object = 0x5FC108
	PrintedInformation Object = 0x5FC109
	KeyHistoryObject   Object = 0x5FC10C
	IrisImages         Object = 0x5FC121
	SignerCertificate  Object = 0x5FC122
	PairingCode        Object = 0x5FC123

	AdminData              Object = 0x5FFF00 // YubiKey: how its PIN-protected management key is kept
	AttestationCertificate Object = 0x5FFF01

	firstRetiredCertificate Object = 0x5FC10D
)

// String is the tag in hexadecimal.
func (o Object) String() string { return fmt.Sprintf("%02X", uint32(o)) }

// NeedsPIN reports the objects that are read with a verified PIN only.
func (o Object) NeedsPIN() bool {
	return o == Fingerprints || o == FacialImage || o == PrintedInformation || o == IrisImages
}

// Wrapper is the tag that the object's content travels in: 53 but for two.
func (o Object) Wrapper() tlv.Tag {
	if o == Discovery || o == BiometricGroup {
		return tlv.Tag(o)
	}
	return 0x53
}

// bytes is the tag as the tag list 5C carries it.
func (o Object) bytes() []byte {
	switch {
	case o <= 0xFF:
		return []byte{byte(o)}
	case o <= 0xFFFF:
		return []byte{byte(o >> 8), byte(o)}
	}
	return []byte{byte(o >> 16), byte(o >> 8), byte(o)}
}

// GetDataCommand reads an object.
func GetDataCommand(o Object) apdu.Command {
	return command(InsGetData, 0x3F, 0xFF, tlv.Encode(0x5C, o.bytes()), apdu.MaxShortNe)
}

// GetData reads the content of an object, without its wrapper. Where the object is
// not there the error is [IsAbsent]; the empty object that some cards have instead
// is absent too.
func GetData(ctx context.Context, d apdu.Doer, o Object) ([]byte, error) {
	what := fmt.Sprintf("reading object %v", o)
	b, err := call(ctx, d, what, GetDataCommand(o))
	if err != nil {
		return nil, err
	}
	v, err := ParseObject(o, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return v, nil
}

// ParseObject takes the content out of the answer to [GetDataCommand].
func ParseObject(o Object, b []byte) ([]byte, error) {
	v, err := unwrap(b, o.Wrapper())
	if err == nil && len(v) == 0 {
		err = fmt.Errorf("empty: %w", apdu.SWFileNotFound)
	}
	return v, err
}

// unwrap takes the one data object that b must be.
func unwrap(b []byte, tag tlv.Tag) ([]byte, error) {
	t, rest, err := tlv.Next(b)
	switch {
	case err != nil:
		return nil, err
	case t.Tag != tag:
		return nil, fmt.Errorf("tag %v, want %v", t.Tag, tag)
	case len(rest) > 0:
		return nil, errors.New("more behind the object")
	}
	return t.Value, nil
}

// PutDataCommand writes an object; no content deletes it. It may be longer than a
// short command: [apdu.Chain] makes the parts.
func PutDataCommand(o Object, content []byte) apdu.Command {
	data := tlv.Encode(0x5C, o.bytes())
	return command(InsPutData, 0x3F, 0xFF, tlv.Append(data, o.Wrapper(), content), 0)
}

// PutData writes an object; no content deletes it. It needs the management key. A
// command of more than [MaxCommand] bytes is refused here.
func PutData(ctx context.Context, d apdu.Doer, o Object, content []byte) error {
	what := fmt.Sprintf("writing object %v", o)
	c := PutDataCommand(o, content)
	if len(c.Data) > MaxCommand {
		return fmt.Errorf("%s: %d bytes, at most %d: %w", what, len(c.Data), MaxCommand, apdu.SWNoMemory)
	}
	_, err := call(ctx, d, what, c)
	return err
}
