// Package piv speaks to PIV applets: one function per command with a typed answer,
// and the data objects that lie on such cards (NIST SP 800-73-4 part 2; the
// commands beyond it are those of the YubiKey, which PivApplet has too).
//
// The functions take whatever runs commands. Long data go out in ISO command
// chaining and long answers come back by GET RESPONSE, because many cards know no
// extended length. PIV has no secure channel of its own: every command goes plain,
// also past a channel that is open to the card manager. The applet must have been
// selected ([Select]).
//
// A status other than 9000 is an error that is the apdu.StatusWord; a refused PIN
// or PUK is a *[PINError]. [IsAbsent] and [IsUnsupported] tell apart what differs
// between makers. Parsers take what a card sent, which is nobody's promise: they
// bound everything and ignore tags they do not know.
//
// Nothing here keeps state; calls for one card must not overlap, because logins
// belong to the card.
package piv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Instructions (SP 800-73-4 part 2 §3; from F6 on the YubiKey's own).
const (
	InsVerify         byte = 0x20
	InsChange         byte = 0x24
	InsResetRetry     byte = 0x2C
	InsGenerate       byte = 0x47
	InsAuthenticate   byte = 0x87
	InsSelect         byte = 0xA4
	InsGetData        byte = 0xCB
	InsPutData        byte = 0xDB
	InsMoveKey        byte = 0xF6
	InsMetadata       byte = 0xF7
	InsSerial         byte = 0xF8
	InsAttest         byte = 0xF9
	InsSetRetries     byte = 0xFA
	InsReset          byte = 0xFB
	InsVersion        byte = 0xFD
	InsImport         byte = 0xFE
	InsSetManagement  byte = 0xFF
	p2PIN             byte = 0x80
	p2PUK             byte = 0x81
	moveToNowhere     byte = 0xFF
	logOut            byte = 0xFF
	managementP1      byte = 0xFF
	managementTouched byte = 0xFE
)

// AIDs of the PIV application (SP 800-73-4 part 1 §2.2): the whole one, and what
// hosts select it by.
var (
	AID      = apdu.MustAID("A000000308000010000100")
	AIDShort = apdu.MustAID("A000000308")
)

// MaxCommand is the most data of a chained command that every card takes, bytes.
const MaxCommand = 3072

// send runs c plain and in parts where it is long. The answer is the last part's.
func send(ctx context.Context, d apdu.Doer, c apdu.Command) (apdu.Response, error) {
	parts := []apdu.Command{c}
	if len(c.Data) > apdu.MaxShortData {
		var err error
		if parts, err = apdu.Chain(c); err != nil {
			return apdu.Response{}, err
		}
	}
	rs, err := apdu.DoAll(ctx, d, apdu.Entries(apdu.Plain, parts...))
	if err != nil {
		return apdu.Response{}, err
	}
	if len(rs) == 0 || len(rs) > len(parts) {
		return apdu.Response{}, fmt.Errorf("%d answers to %d commands", len(rs), len(parts))
	}
	return rs[len(rs)-1], nil
}

// call runs c and demands 9000.
func call(ctx context.Context, d apdu.Doer, what string, c apdu.Command) ([]byte, error) {
	r, err := send(ctx, d, c)
	if err == nil {
		err = r.Check(c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return r.Data, nil
}

func command(ins, p1, p2 byte, data []byte, ne int) apdu.Command {
	return apdu.Command{INS: ins, P1: p1, P2: p2, Data: data, Ne: ne}
}

// IsAbsent reports an object, key or application that is not there: 6A82 or 6A88.
func IsAbsent(err error) bool {
	return errors.Is(err, apdu.SWFileNotFound) || errors.Is(err, apdu.SWReferencedNotFound)
}

// IsUnsupported reports a command that this card does not have: 6D00 or 6A81.
func IsUnsupported(err error) bool {
	return errors.Is(err, apdu.SWInsNotSupported) || errors.Is(err, apdu.SWFuncNotSupported)
}

// Application is the answer to SELECT (SP 800-73-4 part 2 §3.1.1).
type Application struct {
	Label string // tag 50, what the application calls itself; empty = not told
	URI   string // tag 5F50
}

// SelectCommand selects the PIV application by its five-byte prefix, as all hosts
// of YubiKeys do.
func SelectCommand() apdu.Command {
	return apdu.Command{INS: InsSelect, P1: 0x04, Data: AIDShort.Bytes(), Ne: apdu.MaxShortNe}
}

// Select makes PIV the selected application and ends all logins to it. A card
// without PIV answers [apdu.SWFileNotFound]; a success without the PIV application
// template is an error too: some cards select something for any name.
func Select(ctx context.Context, d apdu.Doer) (Application, error) {
	b, err := call(ctx, d, "selecting PIV", SelectCommand())
	if err != nil {
		return Application{}, err
	}
	a, err := ParseApplication(b)
	if err != nil {
		return Application{}, fmt.Errorf("selecting PIV: %w", err)
	}
	return a, nil
}

// ParseApplication reads the application property template 61, or the same inside
// 6F. Tag 4F must name PIV.
func ParseApplication(b []byte) (Application, error) {
	tmpl, ok := tlv.Find(b, 0x61)
	if !ok {
		tmpl, ok = tlv.Find(b, 0x6F)
	}
	if !ok {
		return Application{}, errors.New("no application property template")
	}
	name, _ := tlv.Find(tmpl, 0x4F)
	pix := AID.Bytes()[AIDShort.Len():]
	if !hasPrefix(name, pix) && !hasPrefix(name, AIDShort.Bytes()) {
		return Application{}, errors.New("the application is not PIV")
	}
	var a Application
	if v, ok := tlv.Find(tmpl, 0x50); ok {
		a.Label = printable(v)
	}
	if v, ok := tlv.Find(tmpl, 0x5F50); ok {
		a.URI = printable(v)
	}
	return a, nil
}

func hasPrefix(b, p []byte) bool { return len(b) >= len(p) && string(b[:len(p)]) == string(p) }

// printable is text of a card with everything but ASCII replaced.
func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if out[i] = c; c < 0x20 || c > 0x7E {
			out[i] = '?'
		}
	}
	return string(out)
}

// Version is the firmware or applet version.
type Version struct{ Major, Minor, Patch byte }

// String is 5.7.1.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast compares versions.
func (v Version) AtLeast(major, minor, patch byte) bool {
	a := uint32(v.Major)<<16 | uint32(v.Minor)<<8 | uint32(v.Patch)
	return a >= uint32(major)<<16|uint32(minor)<<8|uint32(patch)
}

// ParseVersion reads what String writes.
func ParseVersion(s string) (Version, error) {
	var v Version
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return v, fmt.Errorf("version %q is not of three numbers", s)
	}
	for i, p := range []*byte{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.ParseUint(parts[i], 10, 8)
		if err != nil {
			return Version{}, fmt.Errorf("version %q: %w", s, err)
		}
		*p = byte(n)
	}
	return v, nil
}

// ReadVersion asks for the version (INS FD). Cards of other makers answer 6D00.
func ReadVersion(ctx context.Context, d apdu.Doer) (Version, error) {
	b, err := call(ctx, d, "reading the version", command(InsVersion, 0, 0, nil, apdu.MaxShortNe))
	if err != nil {
		return Version{}, err
	}
	if len(b) != 3 {
		return Version{}, fmt.Errorf("reading the version: %d bytes, want 3", len(b))
	}
	return Version{b[0], b[1], b[2]}, nil
}

// ReadSerial asks for the serial number (INS F8, from version 5 on).
func ReadSerial(ctx context.Context, d apdu.Doer) (uint32, error) {
	b, err := call(ctx, d, "reading the serial number", command(InsSerial, 0, 0, nil, apdu.MaxShortNe))
	if err != nil {
		return 0, err
	}
	if len(b) != 4 {
		return 0, fmt.Errorf("reading the serial number: %d bytes, want 4", len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

// otp is the application of a YubiKey that tells its serial number in all versions.
var otp = apdu.MustAID("A000000527200101")

// ReadOTPSerial asks for the serial number where [ReadSerial] is not supported: the
// one-time password application of a YubiKey before version 5. Another card has no such
// application, which is [apdu.SWFileNotFound]. PIV is selected again afterwards, all
// logins to it have ended.
func ReadOTPSerial(ctx context.Context, d apdu.Doer) (uint32, error) {
	const what = "reading the serial number from the OTP application"
	n, err := readOTPSerial(ctx, d, what)
	if _, serr := Select(ctx, d); serr != nil {
		return 0, errors.Join(err, serr)
	}
	return n, err
}

func readOTPSerial(ctx context.Context, d apdu.Doer, what string) (uint32, error) {
	if _, err := call(ctx, d, what, command(InsSelect, 0x04, 0, otp.Bytes(), apdu.MaxShortNe)); err != nil {
		return 0, err
	}
	b, err := call(ctx, d, what, command(0x01, 0x10, 0, nil, apdu.MaxShortNe))
	if err != nil {
		return 0, err
	}
	if len(b) != 4 {
		return 0, fmt.Errorf("%s: %d bytes, want 4", what, len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

// SerialCUID is the card identifier of a PIV card that has a serial number but no
// CPLC: FFFF 594B 0000 and the number.
func SerialCUID(serial uint32) apdu.CUID {
	c := apdu.CUID{0xFF, 0xFF, 'Y', 'K'}
	binary.BigEndian.PutUint32(c[6:], serial)
	return c
}

// Reset erases all keys and objects and makes PIN, PUK and management key the
// factory's (INS FB). The card does it only while PIN and PUK are both blocked.
func Reset(ctx context.Context, d apdu.Doer) error {
	_, err := call(ctx, d, "resetting PIV", command(InsReset, 0, 0, nil, 0))
	return err
}
