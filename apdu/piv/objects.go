package piv

import (
	"errors"
	"fmt"
	"time"

	"inkan/apdu/tlv"
)

// CHUID is the card holder unique identifier (SP 800-73-4 part 1 §3.1.2).
type CHUID struct {
	FASCN  [25]byte // agency and credential number
	GUID   [16]byte // identifies the card; hosts name keys after it
	Expiry string   // YYYYMMDD
	Holder []byte   // UUID of the card holder, 16 bytes or none
	Signed []byte   // issuer's signature, none on cards that are not PIV-I
}

// NonFederal is the FASC-N of cards outside the government: agency 9999.
var NonFederal = [25]byte{
	0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68,
	0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
}

// NewCHUID is the CHUID of a card outside the government that is valid until end.
func NewCHUID(guid [16]byte, end time.Time) CHUID {
	return CHUID{FASCN: NonFederal, GUID: guid, Expiry: end.UTC().Format("20060102")}
}

// Encode is the content of object 5FC102. Some readers go by fixed offsets, so the
// order is part of the format.
func (c CHUID) Encode() []byte {
	b := tlv.Encode(0x30, c.FASCN[:])
	b = tlv.Append(b, 0x34, c.GUID[:])
	b = tlv.Append(b, 0x35, []byte(c.Expiry))
	if len(c.Holder) > 0 {
		b = tlv.Append(b, 0x36, c.Holder)
	}
	b = tlv.Append(b, 0x3E, c.Signed)
	return tlv.Append(b, 0xFE)
}

// ParseCHUID reads the content of object 5FC102. GUID is what must be there; a
// FASC-N of another length than 25 is left out.
func ParseCHUID(b []byte) (CHUID, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return CHUID{}, fmt.Errorf("parsing CHUID: %w", err)
	}
	var c CHUID
	guid, ok := tlv.First(ts, 0x34)
	if !ok || len(guid.Value) != len(c.GUID) {
		return CHUID{}, errors.New("parsing CHUID: no GUID of 16 bytes")
	}
	copy(c.GUID[:], guid.Value)
	if v, ok := tlv.First(ts, 0x30); ok && len(v.Value) == len(c.FASCN) {
		copy(c.FASCN[:], v.Value)
	}
	if v, ok := tlv.First(ts, 0x35); ok && isDate(v.Value) {
		c.Expiry = string(v.Value)
	}
	if v, ok := tlv.First(ts, 0x36); ok && len(v.Value) == 16 {
		c.Holder = append([]byte(nil), v.Value...)
	}
	if v, ok := tlv.First(ts, 0x3E); ok && len(v.Value) > 0 {
		c.Signed = append([]byte(nil), v.Value...)
	}
	return c, nil
}

func isDate(b []byte) bool {
	if len(b) != 8 {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// CCC is the card capability container (SP 800-73-4 part 1 §3.1.1).
type CCC struct {
	ID [14]byte // of the card, behind the RID of the GSC specification
}

// gscRID, manufacturer and card type begin the card identifier.
var gscRID = []byte{0xA0, 0x00, 0x00, 0x01, 0x16, 0xFF, 0x02}

// Encode is the content of object 5FC107.
func (c CCC) Encode() []byte {
	b := tlv.Encode(0xF0, gscRID, c.ID[:])
	b = tlv.Append(b, 0xF1, []byte{0x21})
	b = tlv.Append(b, 0xF2, []byte{0x21})
	b = tlv.Append(b, 0xF3)
	b = tlv.Append(b, 0xF4, []byte{0x00})
	b = tlv.Append(b, 0xF5, []byte{0x10})
	for _, tag := range []tlv.Tag{0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE} {
		b = tlv.Append(b, tag)
	}
	return b
}

// ParseCCC reads the content of object 5FC107.
func ParseCCC(b []byte) (CCC, error) {
	var c CCC
	id, ok := tlv.Find(b, 0xF0)
	if !ok || len(id) != len(gscRID)+len(c.ID) {
		return CCC{}, errors.New("parsing CCC: no card identifier of 21 bytes")
	}
	copy(c.ID[:], id[len(gscRID):])
	return c, nil
}

// KeyHistory says how many retired keys there are (SP 800-73-4 part 1 §3.3.3).
type KeyHistory struct {
	OnCard  int    // with their certificates on the card
	OffCard int    // with their certificates at URL
	URL     string // at most 118 bytes
}

// maxHistoryURL is the longest URL of off-card certificates, bytes.
const maxHistoryURL = 118

// Encode is the content of object 5FC10C.
func (h KeyHistory) Encode() []byte {
	b := tlv.Encode(0xC1, []byte{byte(h.OnCard)})
	b = tlv.Append(b, 0xC2, []byte{byte(h.OffCard)})
	if h.OffCard > 0 {
		b = tlv.Append(b, 0xF3, []byte(h.URL))
	} else {
		b = tlv.Append(b, 0xF3)
	}
	return tlv.Append(b, 0xFE)
}

// ParseKeyHistory reads the content of object 5FC10C.
func ParseKeyHistory(b []byte) (KeyHistory, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return KeyHistory{}, fmt.Errorf("parsing key history: %w", err)
	}
	on, ok1 := tlv.First(ts, 0xC1)
	off, ok2 := tlv.First(ts, 0xC2)
	if !ok1 || !ok2 || len(on.Value) != 1 || len(off.Value) != 1 {
		return KeyHistory{}, errors.New("parsing key history: no numbers of keys")
	}
	h := KeyHistory{OnCard: int(on.Value[0]), OffCard: int(off.Value[0])}
	if h.OnCard+h.OffCard > MaxRetired {
		return KeyHistory{}, fmt.Errorf("parsing key history: %d retired keys, at most %d", h.OnCard+h.OffCard, MaxRetired)
	}
	if v, ok := tlv.First(ts, 0xF3); ok && h.OffCard > 0 {
		if len(v.Value) > maxHistoryURL {
			return KeyHistory{}, fmt.Errorf("parsing key history: URL of %d bytes, at most %d", len(v.Value), maxHistoryURL)
		}
		h.URL = printable(v.Value)
	}
	return h, nil
}

// PINUsage is what the discovery object tells of PINs (SP 800-73-4 part 1 §3.3.2).
type PINUsage struct {
	Application bool // the PIN of this application
	Global      bool // a PIN of the whole card
	Biometric   bool // comparison on the card
}

// ParseDiscovery reads the content of object 7E.
func ParseDiscovery(b []byte) (PINUsage, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return PINUsage{}, fmt.Errorf("parsing discovery object: %w", err)
	}
	v, ok := tlv.First(ts, 0x5F2F)
	if !ok || len(v.Value) != 2 {
		return PINUsage{}, errors.New("parsing discovery object: no PIN usage policy")
	}
	p := v.Value[0]
	return PINUsage{Application: p&0x40 != 0, Global: p&0x20 != 0, Biometric: p&0x10 != 0}, nil
}

// DiscoveryContent is the content of object 7E of a card with its own PIN alone.
func DiscoveryContent() []byte {
	return tlv.Append(tlv.Encode(0x4F, AID.Bytes()), 0x5F2F, []byte{0x40, 0x00})
}
