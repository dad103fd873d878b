package piv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
)

// firstSimulated is the first serial number of software cards: no real card has it.
const firstSimulated = 0xF0000000

// Identify implements tps.Identifier: the serial number, or what can be had of the
// GUID in the CHUID, which such a card then keeps (piv-applet.md §13). Zero is no number.
func (Family) Identify(ctx context.Context, d apdu.Doer) (tps.Identity, bool, error) {
	es := apdu.Entries(apdu.Plain|apdu.Anyway, piv.SelectCommand(), apdu.Command{INS: piv.InsSerial, Ne: apdu.MaxShortNe})
	es[0].Mode = apdu.Plain
	d, err := apdu.ReadAhead(ctx, d, es)
	if err != nil {
		return tps.Identity{}, false, err
	}
	if _, err := piv.Select(ctx, d); err != nil {
		return tps.Identity{}, false, refusal(err)
	}
	n, err := piv.ReadSerial(ctx, d)
	if err != nil && refusal(err) == nil {
		n, err = piv.ReadOTPSerial(ctx, d)
	}
	if err == nil && n != 0 {
		return tps.Identity{CUID: piv.SerialCUID(n), MSN: fmt.Sprintf("%08X", n), Simulated: n >= firstSimulated}, true, nil
	}
	if err := refusal(err); err != nil {
		return tps.Identity{}, false, err
	}
	c, err := readCHUID(ctx, d)
	if err != nil {
		return tps.Identity{}, false, err
	}
	if c.GUID == [16]byte{} {
		return tps.Identity{}, false, errors.New("the PIV applet tells neither a serial number nor a GUID, so nothing tells the card from another")
	}
	return tps.Identity{CUID: guidCUID(c.GUID)}, true, nil
}

// readCHUID is the zero value where the card has none, or none that can be read.
func readCHUID(ctx context.Context, d apdu.Doer) (piv.CHUID, error) {
	b, err := piv.GetData(ctx, d, piv.CHUIDObject)
	if err != nil {
		return piv.CHUID{}, refusal(err)
	}
	c, err := piv.ParseCHUID(b)
	if err != nil {
		return piv.CHUID{}, nil
	}
	return c, nil
}

// guidCUID is FFFF and the first eight bytes of the SHA-256 of the GUID.
func guidCUID(guid [16]byte) apdu.CUID {
	h := sha256.Sum256(guid[:])
	c := apdu.CUID{0xFF, 0xFF}
	copy(c[2:], h[:8])
	return c
}

// serialOf is the serial number that a CUID is made of, false of others.
func serialOf(c apdu.CUID) (serial uint32, ok bool) {
	serial = binary.BigEndian.Uint32(c[6:])
	return serial, c == piv.SerialCUID(serial)
}

// simulated reports a software card with a card manager by the beginning of its CPLC.
func simulated(c apdu.CUID) bool { return string(c[:4]) == "INKA" }
