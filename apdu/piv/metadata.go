package piv

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Origin says where a key came from.
type Origin byte

// Origins. PivApplet 0.9.0 tells them wrong: its generated keys are 0, its
// imported ones 1.
const (
	Generated Origin = 1
	Imported  Origin = 2
)

// String names the origin.
func (o Origin) String() string {
	switch o {
	case Generated:
		return "generated"
	case Imported:
		return "imported"
	}
	return fmt.Sprintf("origin %d", byte(o))
}

// noAlgorithm stands in the metadata of PIN and PUK.
const noAlgorithm = 0xFF

// Metadata is what a card of version 5.3 and later tells of a key, the management
// key, PIN or PUK (INS F7).
type Metadata struct {
	Algorithm Algorithm        // FF for PIN and PUK
	Policy    Policy           // of keys; of the management key Touch only
	Origin    Origin           // of keys, 0 = not told
	Public    crypto.PublicKey // of key pairs, nil = not told
	Default   bool             // of PIN, PUK and management key: still the factory's
	Tries     int              // of PIN and PUK: in all; 0 = not told
	Left      int              // of PIN and PUK: left
}

// ReadMetadata asks for the metadata of a slot, of [Management], [PIN] or [PUK]. An
// empty slot is [IsAbsent], an older card [IsUnsupported].
func ReadMetadata(ctx context.Context, d apdu.Doer, ref Slot) (Metadata, error) {
	what := fmt.Sprintf("reading the metadata of %v", ref)
	b, err := call(ctx, d, what, command(InsMetadata, 0, byte(ref), nil, apdu.MaxShortNe))
	if err != nil {
		return Metadata{}, err
	}
	m, err := ParseMetadata(b)
	if err != nil {
		return Metadata{}, fmt.Errorf("%s: %w", what, err)
	}
	return m, nil
}

// ParseMetadata reads the answer of INS F7. Tags it does not know are ignored.
func ParseMetadata(b []byte) (Metadata, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	alg, ok := tlv.First(ts, 0x01)
	if !ok || len(alg.Value) != 1 {
		return Metadata{}, errors.New("metadata without an algorithm")
	}
	m.Algorithm = Algorithm(alg.Value[0])
	for _, t := range ts {
		if err := m.field(t); err != nil {
			return Metadata{}, fmt.Errorf("tag %v: %w", t.Tag, err)
		}
	}
	return m, nil
}

func (m *Metadata) field(t tlv.TLV) (err error) {
	want := map[tlv.Tag]int{0x02: 2, 0x03: 1, 0x05: 1, 0x06: 2}
	if n, fixed := want[t.Tag]; fixed && len(t.Value) != n {
		return fmt.Errorf("%d bytes, want %d", len(t.Value), n)
	}
	switch t.Tag {
	case 0x02:
		m.Policy = Policy{PINPolicy(t.Value[0]), TouchPolicy(t.Value[1])}
	case 0x03:
		m.Origin = Origin(t.Value[0])
	case 0x04:
		if m.Algorithm.Asymmetric() { // else of an algorithm from later than this
			m.Public, err = ParsePublicKey(m.Algorithm, t.Value)
		}
	case 0x05:
		m.Default = t.Value[0] == 1
	case 0x06:
		m.Tries, m.Left = int(t.Value[0]), int(t.Value[1])
	}
	return err
}

// Encode is the inverse of [ParseMetadata], in the order real cards have: hosts
// read the algorithm by its position.
func (m Metadata) Encode() ([]byte, error) {
	b := tlv.Encode(0x01, []byte{byte(m.Algorithm)})
	if m.Algorithm != noAlgorithm {
		b = tlv.Append(b, 0x02, []byte{byte(m.Policy.PIN), byte(m.Policy.Touch)})
	}
	if m.Public != nil {
		pub, err := AppendPublicKey(nil, m.Public)
		if err != nil {
			return nil, err
		}
		b = tlv.Append(b, 0x03, []byte{byte(m.Origin)})
		return tlv.Append(b, 0x04, pub), nil
	}
	factory := byte(0)
	if m.Default {
		factory = 1
	}
	b = tlv.Append(b, 0x05, []byte{factory})
	if m.Algorithm == noAlgorithm {
		b = tlv.Append(b, 0x06, []byte{byte(m.Tries), byte(m.Left)})
	}
	return b, nil
}
