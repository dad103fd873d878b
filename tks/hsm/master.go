package hsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/kdf"
)

// roleMaster is the first byte of a card master key's CKA_ID.
const roleMaster = 'M'

// masterPrefix begins the label of every card master key.
const masterPrefix = "tms:master:"

// MasterID is what a master key is for. It is the key's label and CKA_ID
// together, and so the definition of the key set version for every node that
// sees the token (hsm.md §6).
type MasterID struct {
	Set     tks.KeySetName
	Version gp.KeyVersion // 01 to 7F
	Slot    kdf.Slot      // 0: one master for the three keys
	KDF     kdf.Code
}

// Label is tms:master:SET:vNN, followed by :enc, :mac or :dek where the key is
// for one slot only. NN is hexadecimal.
func (m MasterID) Label() string {
	l := fmt.Sprintf("%s%s:v%02x", masterPrefix, m.Set, uint8(m.Version))
	if m.Slot != 0 {
		l += ":" + m.Slot.String()
	}
	return l
}

// ID is the CKA_ID: role 'M', the first four bytes of the SHA-256 of the set's
// name, version, slot, diversification.
func (m MasterID) ID() [8]byte {
	h := sha256.Sum256([]byte(m.Set))
	return [8]byte{roleMaster, h[0], h[1], h[2], h[3], byte(m.Version), byte(m.Slot), byte(m.KDF)}
}

// Check reports whether a master key may have this identity.
func (m MasterID) Check() error {
	if _, err := tks.ParseKeySetName(string(m.Set)); err != nil {
		return err
	}
	if m.Set == tks.Factory {
		return fmt.Errorf("the name %q is built in", tks.Factory)
	}
	if m.Version < 0x01 || m.Version > 0x7F {
		return fmt.Errorf("key version %v: want 01 to 7F", m.Version)
	}
	if m.Slot > kdf.DEK {
		return fmt.Errorf("no key slot %d", uint8(m.Slot))
	}
	if m.KDF == kdf.NotKeyed {
		return fmt.Errorf("no diversification given")
	}
	return nil
}

// IsMasterLabel reports whether a label claims to be that of a card master key.
func IsMasterLabel(label string) bool { return strings.HasPrefix(label, masterPrefix) }

// ParseMasterID reads the identity of a master key. It fails where label and
// CKA_ID do not say the same.
func ParseMasterID(label string, id []byte) (MasterID, error) {
	var m MasterID
	rest, ok := strings.CutPrefix(label, masterPrefix)
	if !ok {
		return m, fmt.Errorf("label %q is not that of a master key", label)
	}
	if len(id) != 8 {
		return m, fmt.Errorf("master key %q: CKA_ID of %d bytes, want 8", label, len(id))
	}
	parts := strings.Split(rest, ":")
	if len(parts) < 2 || len(parts[1]) != 3 || parts[1][0] != 'v' {
		return m, fmt.Errorf("master key label %q is not of the form %sSET:vNN", label, masterPrefix)
	}
	v, err := strconv.ParseUint(parts[1][1:], 16, 8)
	if err != nil {
		return m, fmt.Errorf("master key label %q: version is not hexadecimal", label)
	}
	m = MasterID{Set: tks.KeySetName(parts[0]), Version: gp.KeyVersion(v), Slot: kdf.Slot(id[6]), KDF: kdf.Code(id[7])}
	if err := m.Check(); err != nil {
		return MasterID{}, fmt.Errorf("master key %q: %w", label, err)
	}
	if want := m.ID(); m.Label() != label || !bytes.Equal(want[:], id) {
		return MasterID{}, fmt.Errorf("master key %q: CKA_ID %X does not belong to this label", label, id)
	}
	return m, nil
}

// MasterValue is a master key of known value, on its way into a vault.
type MasterValue struct {
	ID    MasterID
	Type  KeyType
	Value secret.Secret // of the length of Type
}

// CheckMasterValues reports whether keys can be imported together: each identity
// and length is right, no two are the same. Vaults call it first.
func CheckMasterValues(keys []MasterValue) error {
	if len(keys) == 0 {
		return fmt.Errorf("no key is given")
	}
	labels := map[string]bool{}
	for _, k := range keys {
		if err := k.ID.Check(); err != nil {
			return err
		}
		if !k.Type.Valid() || k.Value.Len() != k.Type.Size() {
			return fmt.Errorf("%s: key of type %v with %d bytes, want %d", k.ID.Label(), k.Type, k.Value.Len(), k.Type.Size())
		}
		if labels[k.ID.Label()] {
			return fmt.Errorf("%s is given twice: %w", k.ID.Label(), ErrExists)
		}
		labels[k.ID.Label()] = true
	}
	return nil
}

// Master refers to a master key in a vault. It is a [Key] to derive from.
type Master struct {
	MasterID
	Kind KeyType
	KCV  gp.KCV // GlobalPlatform convention
	Protection
	Origin  Origin
	Created time.Time // UTC, to the day at least; zero where the token does not know
}

// Type implements [Key].
func (m Master) Type() KeyType { return m.Kind }

// Origin says where a key came into being.
type Origin string

// Origins.
const (
	Generated Origin = "generated" // inside this token
	Imported  Origin = "imported"  // its value has existed elsewhere
)

// CompareMasters orders by set, version and slot.
func CompareMasters(a, b Master) int {
	if c := strings.Compare(string(a.Set), string(b.Set)); c != 0 {
		return c
	}
	if a.Version != b.Version {
		return int(a.Version) - int(b.Version)
	}
	return int(a.Slot) - int(b.Slot)
}
