package coolkey

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	ck "inkan/apdu/coolkey"
	"inkan/sim/internal/rawrsa"
)

const (
	stateFormat = 1
	pinSlots    = 8
	defaultHeap = 5000
	maxState    = 1 << 20 // bytes of a saved state
	noMate      = -1
)

// state is what survives a reset, in the form it is saved in.
type state struct {
	Format     int
	Version    ck.Version
	Heap       heap
	PINs       [pinSlots]*pin
	Keys       []*key // by slot; nil = never filled
	Issuer     []byte
	Create     ck.CreationACL
	PINEnabled bool
	Open       bool // object and key creation is open to ordinary identities
}

// pin is a PIN with its counters.
type pin struct {
	Value []byte
	Max   int
	Tries int
}

// key is a filled slot, or one that was cleared.
type key struct {
	Type ck.KeyType // 0 = cleared
	Bits int
	Mate int // noMate or a slot
	ACL  ck.KeyACL
	RSA  *rawrsa.Key `json:",omitempty"`
	EC   *ecKey      `json:",omitempty"`
}

// used reports whether the slot holds a key.
func (k *key) used() bool { return k != nil && k.Type != 0 }

// wipe clears the key material; the slot stays allocated.
func (k *key) wipe() {
	if k.RSA != nil {
		k.RSA.Wipe()
	}
	if k.EC != nil {
		clear(k.EC.D)
	}
	*k = key{Mate: noMate}
}

func newState(t traits) state {
	return state{
		Format:  stateFormat,
		Version: t.version,
		Heap:    heap{Size: defaultHeap},
		Keys:    make([]*key, t.keySlots),
		Issuer:  make([]byte, ck.IssuerInfoLen),
		Create:  ck.CreationACL{Object: ck.ACLAuthority, Key: ck.ACLAuthority, PIN: ck.ACLAuthority},
	}
}

// install reads the value of C9: issuer info, heap size, switches. It ends
// silently where the value does (coolkey-applet.md §13).
func (s *state) install(params []byte) {
	issuer, rest, ok := short(params)
	if !ok || len(issuer) >= ck.IssuerInfoLen {
		return
	}
	copy(s.Issuer, issuer)
	memory, rest, ok := short(rest)
	if !ok || len(memory) != 2 {
		return
	}
	if n := int(int16(binary.BigEndian.Uint16(memory))); n > 0 {
		s.Heap.Size = n
	}
	if mask, _, ok := short(rest); ok && len(mask) > 0 {
		s.Create.Changeable = mask[0]&1 != 0 // SET BUILT-IN ACL is allowed
	}
}

// short splits a field with a one-byte length off b.
func short(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := int(b[0])
	return b[1 : 1+n : 1+n], b[1+n:], true
}

// Save implements gp.Applet.
func (a *Applet) Save() ([]byte, error) {
	b, err := json.Marshal(&a.p)
	if err != nil {
		return nil, fmt.Errorf("saving CoolKey applet: %w", err)
	}
	return b, nil
}

// Load implements gp.Applet. What is not a state that Save wrote is refused and
// changes nothing.
func (a *Applet) Load(b []byte) error {
	if len(b) > maxState {
		return fmt.Errorf("loading CoolKey applet: %w: %d bytes", errState, len(b))
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("loading CoolKey applet: %w", err)
	}
	if err := s.check(a.traits); err != nil {
		return fmt.Errorf("loading CoolKey applet: %w", err)
	}
	a.p = s
	a.Reset()
	return nil
}

func (s *state) check(t traits) error {
	if s.Format != stateFormat {
		return fmt.Errorf("%w: format %d", errState, s.Format)
	}
	if len(s.Issuer) != ck.IssuerInfoLen || len(s.Keys) != t.keySlots {
		return fmt.Errorf("%w: %d bytes of issuer info, %d key slots", errState, len(s.Issuer), len(s.Keys))
	}
	for n, p := range s.PINs {
		if p != nil && (!pinLength(len(p.Value)) || p.Max < 1 || p.Max > 127 || p.Tries < 0 || p.Tries > p.Max) {
			return fmt.Errorf("%w: PIN %d", errState, n)
		}
	}
	for n, k := range s.Keys {
		if k != nil && !k.sound(t) {
			return fmt.Errorf("%w: key %d", errState, n)
		}
	}
	return s.Heap.check()
}

// sound reports whether the material is what the type says, so that no operation
// can trip over it.
func (k *key) sound(t traits) bool {
	if k.Mate < noMate || k.Mate >= t.keySlots {
		return false
	}
	switch k.Type {
	case 0:
		return k.RSA == nil && k.EC == nil
	case ck.KeyRSAPublic, ck.KeyRSAPrivate:
		return k.EC == nil && k.RSA != nil && k.RSA.Sound(k.Bits, k.Type == ck.KeyRSAPrivate)
	case ck.KeyECPublic, ck.KeyECPrivate:
		return k.RSA == nil && k.EC != nil && k.EC.sound(k.Bits, k.Type == ck.KeyECPrivate)
	}
	return false
}

// check verifies that the blocks lie inside the heap, apart from each other.
func (h *heap) check() error {
	if h.Size < 1 || h.Size > ck.MaxObjectLen || len(h.Objects) > h.Size/allocation {
		return fmt.Errorf("%w: heap of %d bytes with %d objects", errState, h.Size, len(h.Objects))
	}
	for _, o := range h.Objects {
		if o == nil || o.Seq == 0 || o.Seq > 1<<31 {
			return fmt.Errorf("%w: objects", errState)
		}
	}
	blocks := h.byOffset()
	end, seq := 0, make(map[uint32]bool)
	for _, o := range blocks {
		if o.Offset < end || len(o.Data) < 1 || o.Block < len(o.Data)+allocation || o.Offset+o.Block > h.Size || seq[o.Seq] {
			return fmt.Errorf("%w: object %v", errState, o.ID)
		}
		end, seq[o.Seq] = o.Offset+o.Block, true
	}
	if !slices.IsSortedFunc(h.Objects, func(a, b *object) int { return int(int64(a.Seq) - int64(b.Seq)) }) {
		return fmt.Errorf("%w: order of objects", errState)
	}
	return nil
}
