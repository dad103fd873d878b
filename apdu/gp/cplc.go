package gp

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// CPLC is the card production life cycle data (GET DATA 9F7F), 42 bytes on the
// card. Dates are four BCD digits YDDD: last digit of the year, day of the year.
// The card claims all of it; nothing is proved.
type CPLC struct {
	ICFabricator      uint16
	ICType            uint16
	OSID              uint16
	OSReleaseDate     uint16
	OSReleaseLevel    uint16
	FabricationDate   uint16
	ICSerial          uint32
	ICBatch           uint16
	ModuleFabricator  uint16
	PackagingDate     uint16
	ICCManufacturer   uint16
	EmbeddingDate     uint16
	PrePersonalizer   uint16
	PrePersoDate      uint16
	PrePersoEquipment uint32
	Personalizer      uint16
	PersoDate         uint16
	PersoEquipment    uint32
}

const (
	cplcLen       = 42
	cplcHeaderLen = 3
)

// ParseCPLC reads the 42 bytes, with or without their header 9F7F2A. Dogtag's
// soft token has three other bytes in the header's place (tps-protocol §14.5).
func ParseCPLC(b []byte) (CPLC, error) {
	v := Value(b, TagCPLC)
	if len(v) == cplcHeaderLen+cplcLen {
		v = v[cplcHeaderLen:]
	}
	if len(v) != cplcLen {
		return CPLC{}, fmt.Errorf("CPLC of %d bytes, want %d", len(v), cplcLen)
	}
	var c CPLC
	if _, err := binary.Decode(v, binary.BigEndian, &c); err != nil {
		return CPLC{}, fmt.Errorf("parsing CPLC: %w", err)
	}
	return c, nil
}

// ReadCPLC reads the card's production data.
func ReadCPLC(ctx context.Context, d apdu.Doer) (CPLC, error) {
	b, err := GetData(ctx, d, TagCPLC)
	if err != nil {
		return CPLC{}, err
	}
	return ParseCPLC(b)
}

// Bytes returns the 42 bytes without header.
func (c CPLC) Bytes() []byte {
	b, err := binary.Append(make([]byte, 0, cplcLen), binary.BigEndian, c)
	if err != nil { // not for a struct of fixed-size integers
		return nil
	}
	return b
}

// Encode returns the data object as GET DATA does: 9F7F2A and the 42 bytes.
func (c CPLC) Encode() []byte { return tlv.Encode(TagCPLC, c.Bytes()) }

// CUID is the card unique identifier: fabricator, type, batch, serial number.
func (c CPLC) CUID() apdu.CUID {
	var id apdu.CUID
	binary.BigEndian.PutUint16(id[0:], c.ICFabricator)
	binary.BigEndian.PutUint16(id[2:], c.ICType)
	binary.BigEndian.PutUint16(id[4:], c.ICBatch)
	binary.BigEndian.PutUint32(id[6:], c.ICSerial)
	return id
}

// MSN is the manufacturer's serial number as Dogtag's TPS records it: the
// personalisation equipment identifier.
func (c CPLC) MSN() MSN {
	var m MSN
	binary.BigEndian.PutUint32(m[:], c.PersoEquipment)
	return m
}

// Simulated reports the mark of a software card: fabricator and type 494E4B41.
func (c CPLC) Simulated() bool { return c.ICFabricator == 0x494E && c.ICType == 0x4B41 }

// MSN is a manufacturer's serial number, 4 bytes of the CPLC.
type MSN [4]byte

// ParseMSN reads eight hexadecimal digits.
func ParseMSN(s string) (MSN, error) {
	var m MSN
	b, err := hex.DecodeString(s)
	if err != nil {
		return m, fmt.Errorf("parsing MSN: %w", err)
	}
	if len(b) != len(m) {
		return m, fmt.Errorf("MSN of %d bytes, want 4", len(b))
	}
	copy(m[:], b)
	return m, nil
}

// String is eight upper-case hexadecimal digits.
func (m MSN) String() string { return strings.ToUpper(hex.EncodeToString(m[:])) }

// MarshalText implements encoding.TextMarshaler.
func (m MSN) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MSN) UnmarshalText(t []byte) error {
	v, err := ParseMSN(string(t))
	if err != nil {
		return err
	}
	*m = v
	return nil
}
