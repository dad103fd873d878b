package seal

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Bounds of the format.
const (
	MaxPlaintext = 16 << 20
	maxHeader    = 64 << 10
	formatV1     = 1
	tagSize      = 16
	trailerSize  = sha256.Size
	fixedSize    = 16 + 4 + tagSize + trailerSize // a file without fields and content
)

// magic is no UTF-8, and shows a transfer that took it for text.
var magic = []byte{0x89, 'T', 'M', 'S', 'S', 0x0D, 0x0A, 0x1A}

// Types of header fields.
const (
	tagInstance    = 0x0001
	tagRole        = 0x0002
	tagGeneration  = 0x0003
	tagSealedAt    = 0x0004
	tagAlgorithm   = 0x0005
	tagNonce       = 0x0006
	tagPrevious    = 0x0007
	tagContentType = 0x0008
	tagNotAfter    = 0x0009
	tagSlot        = 0x0020
	tagProgram     = 0x8001
	tagAnchor      = 0x8002 // ours: seal.toml, which names the anchor, is not vouched for
)

// algorithmGCM is AES-256-GCM with a key by HKDF-SHA-256, the only one.
const algorithmGCM = 1

// flagNotAfter says that the header has a time after which it is refused.
const flagNotAfter = 1

// Header is what anybody can read of a sealed file.
type Header struct {
	Instance    InstanceID
	Role        Role
	Generation  uint64
	SealedAt    time.Time // to the second
	NotAfter    time.Time // zero: for ever
	Previous    []byte    // SHA-256 of the file before; nil for the first
	ContentType string
	Program     string // version that wrote it
	Anchor      string // where its generation is kept; empty: not said
	Slots       []Slot // by number

	nonce []byte
}

// File is a sealed file, parsed but not opened: nothing in it is proved yet.
type File struct {
	Header
	Size int      // of the plaintext, in bytes
	Hash [32]byte // SHA-256 of the whole file

	aad, payload []byte
}

// Parse reads the structure of a sealed file. Whatever is wrong with it is an
// [*Error] of code Damaged, Version or PlaintextFound.
func Parse(b []byte) (*File, error) {
	if err := looksSealed(b); err != nil {
		return nil, err
	}
	body, trailer := b[:len(b)-trailerSize], b[len(b)-trailerSize:]
	sum := sha256.Sum256(body)
	if subtle.ConstantTimeCompare(sum[:], trailer) != 1 {
		return nil, invalid("", "its check sum is wrong (%d bytes)", len(b))
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != formatV1 {
		return nil, refuse(Version, "", "format version %d: this program reads %d", v, formatV1)
	}
	flags := binary.BigEndian.Uint16(b[10:])
	if flags&^flagNotAfter != 0 {
		return nil, refuse(Version, "", "unknown flags %04X", flags)
	}
	h := binary.BigEndian.Uint32(b[12:])
	if h > maxHeader || int(h) > len(b)-fixedSize {
		return nil, invalid("", "header of %d bytes in a file of %d", h, len(b))
	}
	end := 16 + int(h)
	p := binary.BigEndian.Uint32(b[end:])
	if p > MaxPlaintext || int(p) != len(b)-fixedSize-int(h) {
		return nil, invalid("", "content of %d bytes in a file of %d", p, len(b))
	}
	f := &File{Size: int(p), Hash: sha256.Sum256(b), aad: b[:end+4], payload: body[end+4:]}
	if err := f.parseHeader(b[16:end], flags); err != nil {
		return nil, err
	}
	return f, nil
}

// looksSealed tells another file from a cut one.
func looksSealed(b []byte) error {
	switch {
	case len(b) == 0:
		return invalid("", "the file is empty")
	case bytes.HasPrefix(b, magic) && len(b) >= fixedSize:
		return nil
	case bytes.HasPrefix(b, magic):
		return invalid("", "the file is cut off after %d bytes", len(b))
	case !bytes.HasPrefix(magic, b) && utf8.Valid(b):
		return refuse(PlaintextFound, "", "not a valid sealed configuration: there is plain text in place of the sealed file")
	}
	return invalid("", "the file does not begin as one")
}

func (f *File) parseHeader(b []byte, flags uint16) error {
	fields, err := splitTLV(b, tagSlot)
	if err != nil {
		return invalid("", "%v", err)
	}
	seen := map[uint16]bool{}
	for _, t := range fields {
		seen[t.tag] = true
		if err := f.setField(t); err != nil {
			return err
		}
	}
	for _, tag := range []uint16{tagInstance, tagRole, tagGeneration, tagSealedAt, tagAlgorithm, tagNonce, tagSlot} {
		if !seen[tag] {
			return invalid("", "field %04X is missing", tag)
		}
	}
	if seen[tagNotAfter] != (flags&flagNotAfter != 0) {
		return invalid("", "flags and fields contradict each other")
	}
	if f.Generation == 0 || f.Generation == 1 && seen[tagPrevious] {
		return invalid("", "generation %d with a predecessor", f.Generation)
	}
	return nil
}

// lengths are those of fields that have one only.
var lengths = map[uint16]int{tagInstance: 16, tagGeneration: 8, tagSealedAt: 8, tagAlgorithm: 1, tagNonce: 12, tagPrevious: 32, tagNotAfter: 8}

func (f *File) setField(t tlv) error {
	if want, ok := lengths[t.tag]; ok && len(t.value) != want {
		return invalid("", "field %04X has %d bytes", t.tag, len(t.value))
	}
	var err error
	switch t.tag {
	case tagInstance:
		f.Instance = InstanceID(t.value)
	case tagRole:
		f.Role = Role(t.value)
		err = f.Role.Check()
	case tagGeneration:
		f.Generation = binary.BigEndian.Uint64(t.value)
	case tagSealedAt:
		f.SealedAt, err = moment(t.value)
	case tagAlgorithm:
		if t.value[0] != algorithmGCM {
			return refuse(Version, "", "unknown algorithm %02X", t.value[0])
		}
	case tagNonce:
		f.nonce = t.value
	case tagPrevious:
		f.Previous = t.value
	case tagContentType:
		f.ContentType, err = text(t.value)
	case tagNotAfter:
		f.NotAfter, err = moment(t.value)
	case tagProgram:
		f.Program, err = text(t.value)
	case tagAnchor:
		f.Anchor, err = text(t.value)
	case tagSlot:
		var s Slot
		if s, err = parseSlot(t.value); err == nil {
			err = f.addSlot(s)
		}
	default:
		if t.tag&ignorable == 0 {
			return refuse(Version, "", "unknown field %04X", t.tag)
		}
	}
	if err != nil && CodeOf(err) == "" {
		return invalid("", "%v", err)
	}
	return err
}

func (f *File) addSlot(s Slot) error {
	if n := len(f.Slots); n > 0 && f.Slots[n-1].Number >= s.Number {
		return fmt.Errorf("key slots out of order")
	}
	f.Slots = append(f.Slots, s)
	return nil
}

func moment(b []byte) (time.Time, error) {
	v := binary.BigEndian.Uint64(b)
	if v > math.MaxInt32*100 {
		return time.Time{}, fmt.Errorf("time %d", v)
	}
	return time.Unix(int64(v), 0).UTC(), nil
}

func text(b []byte) (string, error) {
	if len(b) > 255 || !utf8.Valid(b) {
		return "", fmt.Errorf("text of %d bytes", len(b))
	}
	return string(b), nil
}

// head encodes everything before the ciphertext, which is what the ciphertext is
// bound to.
func (h *Header) head(size int) ([]byte, error) {
	w := &writer{}
	w.put(tagInstance, h.Instance[:])
	w.put(tagRole, []byte(h.Role))
	w.u64(tagGeneration, h.Generation)
	w.u64(tagSealedAt, uint64(h.SealedAt.Unix()))
	w.put(tagAlgorithm, []byte{algorithmGCM})
	w.put(tagNonce, h.nonce)
	w.opt(tagPrevious, h.Previous)
	w.opt(tagContentType, []byte(h.ContentType))
	flags := uint16(0)
	if !h.NotAfter.IsZero() {
		flags |= flagNotAfter
		w.u64(tagNotAfter, uint64(h.NotAfter.Unix()))
	}
	for _, s := range h.Slots {
		w.put(tagSlot, s.encode(w))
	}
	w.opt(tagProgram, []byte(h.Program))
	w.opt(tagAnchor, []byte(h.Anchor))
	if w.err != nil {
		return nil, w.err
	}
	if len(w.b) > maxHeader {
		return nil, fmt.Errorf("header of %d bytes", len(w.b))
	}
	out := slices.Clone(magic)
	out = binary.BigEndian.AppendUint16(out, formatV1)
	out = binary.BigEndian.AppendUint16(out, flags)
	out = binary.BigEndian.AppendUint32(out, uint32(len(w.b)))
	out = append(out, w.b...)
	return binary.BigEndian.AppendUint32(out, uint32(size)), nil
}
