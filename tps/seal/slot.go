package seal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Kind says what a key slot needs to be opened.
type Kind uint8

// Kinds of key slots.
const (
	KindPKCS11     Kind = 1 // a key in an HSM
	KindPassphrase Kind = 2 // Argon2id
	KindAge        Kind = 3 // an age identity
	KindCredential Kind = 4 // a systemd credential, which the TPM may protect
	KindKeyFile    Kind = 5 // a key in the encrypted key file
)

// String names the kind for people.
func (k Kind) String() string {
	switch k {
	case KindPKCS11:
		return "HSM"
	case KindPassphrase:
		return "recovery passphrase"
	case KindAge:
		return "recovery key (age)"
	case KindCredential:
		return "system credential"
	case KindKeyFile:
		return "key file"
	}
	return fmt.Sprintf("kind %02X", uint8(k))
}

// Recovery reports whether a slot of this kind opens without HSM and key file.
func (k Kind) Recovery() bool { return k == KindPassphrase || k == KindAge }

// Mechanisms of slots beside the CKM values of PKCS #11.
const (
	MechanismGCM      uint32 = 0x00001087 // CKM_AES_GCM
	MechanismKWP      uint32 = 0x80010001 // RFC 5649, proved by a known answer
	MechanismKW       uint32 = 0x80010002 // RFC 3394
	MechanismArgon2id uint32 = 0x80020001 // Argon2id and AES-256-GCM
	MechanismAge      uint32 = 0x80030001
)

// Slot is one way to the data key.
type Slot struct {
	Number    uint8
	Kind      Kind
	Mechanism uint32
	Label     string // of the key; of an age slot: the recipient, shortened
	ID        []byte // CKA_ID
	KCV       []byte // 3 bytes (AES of a zero block), or none
	Token     string // label of the token
	Serial    string

	nonce, wrapped []byte
	kdf            []byte
}

// String names the slot for people: "1 HSM tms:seal:00112233:v01 in prod-tks".
func (s Slot) String() string {
	parts := []string{fmt.Sprint(s.Number), s.Kind.String()}
	if s.Label != "" {
		parts = append(parts, s.Label)
	}
	if s.Token != "" {
		parts = append(parts, "in", s.Token)
	}
	return strings.Join(parts, " ")
}

// Types of slot fields.
const (
	slotNumber    = 0x0001
	slotKind      = 0x0002
	slotMechanism = 0x0003
	slotLabel     = 0x0004
	slotID        = 0x0005
	slotKCV       = 0x0006
	slotToken     = 0x0007
	slotSerial    = 0x0008
	slotNonce     = 0x0009
	slotWrapped   = 0x000A
	slotKDF       = 0x000B
)

func (s Slot) encode(outer *writer) []byte {
	w := &writer{}
	w.put(slotNumber, []byte{s.Number})
	w.put(slotKind, []byte{byte(s.Kind)})
	w.put(slotMechanism, binary.BigEndian.AppendUint32(nil, s.Mechanism))
	w.opt(slotLabel, []byte(s.Label))
	w.opt(slotID, s.ID)
	w.opt(slotKCV, s.KCV)
	w.opt(slotToken, []byte(s.Token))
	w.opt(slotSerial, []byte(s.Serial))
	w.opt(slotNonce, s.nonce)
	w.put(slotWrapped, s.wrapped)
	w.opt(slotKDF, s.kdf)
	if outer.err == nil {
		outer.err = w.err
	}
	return w.b
}

func parseSlot(b []byte) (Slot, error) {
	var s Slot
	fields, err := splitTLV(b, 0)
	if err != nil {
		return s, err
	}
	var seen []uint16
	for _, t := range fields {
		seen = append(seen, t.tag)
		if err := s.set(t); err != nil {
			return s, err
		}
	}
	for _, tag := range []uint16{slotNumber, slotKind, slotMechanism, slotWrapped} {
		if !slices.Contains(seen, tag) {
			return s, fmt.Errorf("key slot without field %04X", tag)
		}
	}
	if s.Number == 0 || len(s.wrapped) == 0 {
		return s, fmt.Errorf("key slot %d is empty", s.Number)
	}
	return s, nil
}

// slotLengths are those of fields that have one only.
var slotLengths = map[uint16]int{slotNumber: 1, slotKind: 1, slotMechanism: 4, slotKCV: 3, slotKDF: kdfSize}

func (s *Slot) set(t tlv) (err error) {
	if want, ok := slotLengths[t.tag]; ok && len(t.value) != want {
		return fmt.Errorf("key slot field %04X has %d bytes", t.tag, len(t.value))
	}
	switch t.tag {
	case slotNumber:
		s.Number = t.value[0]
	case slotKind:
		s.Kind = Kind(t.value[0])
	case slotMechanism:
		s.Mechanism = binary.BigEndian.Uint32(t.value)
	case slotLabel:
		s.Label, err = text(t.value)
	case slotID:
		s.ID = t.value
	case slotKCV:
		s.KCV = t.value
	case slotToken:
		s.Token, err = text(t.value)
	case slotSerial:
		s.Serial, err = text(t.value)
	case slotNonce:
		s.nonce = t.value
	case slotWrapped:
		s.wrapped = t.value
	case slotKDF:
		s.kdf = t.value
	default:
		if t.tag&ignorable == 0 {
			return refuse(Version, "", "unknown key slot field %04X", t.tag)
		}
	}
	return err
}
