package piv

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"inkan/apdu/piv"
)

const (
	stateFormat = 1
	maxState    = 4 << 20 // bytes of a saved state
	maxObject   = 3072    // bytes of an object with its wrapper
	maxObjects  = 51 << 10
)

// state is what survives a reset, in the form it is saved in.
type state struct {
	Format     int
	Serial     uint32
	PIN, PUK   reference
	Management management
	Keys       map[piv.Slot]*key
	Objects    map[piv.Object][]byte // content, without the wrapper
	Root       []byte                `json:",omitempty"` // certificate of the attestation root
}

// management is the card management key.
type management struct {
	Algorithm piv.Algorithm
	Value     []byte
	Touch     piv.TouchPolicy
	Default   bool
}

// born makes the state of a card that has just left the factory.
func (a *Applet) born(r io.Reader) error {
	a.p = state{Format: stateFormat, Serial: a.cfg.Serial, Keys: map[piv.Slot]*key{}, Objects: map[piv.Object][]byte{}}
	if a.p.Serial == 0 {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return fmt.Errorf("drawing a serial number: %w", err)
		}
		a.p.Serial = 1<<31 | binary.BigEndian.Uint32(b[:])
	}
	a.factory()
	if !a.cfg.has(attestation) {
		return nil
	}
	return a.certify(r)
}

// factory gives PIN, PUK and management key their first values.
func (a *Applet) factory() {
	t := kinds[a.cfg.Kind]
	a.p.PIN = newReference(piv.DefaultPIN, t.pinTries)
	a.p.PUK = newReference(piv.DefaultPUK, t.pukTries)
	a.p.Management.wipe()
	a.p.Management = management{
		Algorithm: a.cfg.ManagementAlgorithm, Default: true, Touch: piv.TouchNever,
		Value: append([]byte(nil), a.cfg.ManagementKey...),
	}
}

func (m *management) wipe() { clear(m.Value) }

// Save implements gp.Applet.
func (a *Applet) Save() ([]byte, error) {
	b, err := json.Marshal(&a.p)
	if err != nil {
		return nil, fmt.Errorf("saving PIV applet: %w", err)
	}
	return b, nil
}

// Load implements gp.Applet. What is not a state that Save wrote is refused and
// changes nothing.
func (a *Applet) Load(b []byte) error {
	if len(b) > maxState {
		return fmt.Errorf("loading PIV applet: %w: %d bytes", errState, len(b))
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("loading PIV applet: %w", err)
	}
	if err := s.check(a.cfg); err != nil {
		return fmt.Errorf("loading PIV applet: %w", err)
	}
	a.p = s
	a.Reset()
	return nil
}

func (s *state) check(c Config) error {
	if s.Format != stateFormat {
		return fmt.Errorf("%w: format %d", errState, s.Format)
	}
	if !s.PIN.sound() || !s.PUK.sound() {
		return fmt.Errorf("%w: PIN or PUK", errState)
	}
	if _, err := piv.ManagementCipher(s.Management.Algorithm, s.Management.Value); err != nil {
		return fmt.Errorf("%w: %v", errState, err)
	}
	if s.Keys == nil || s.Objects == nil {
		return fmt.Errorf("%w: no keys or no objects", errState)
	}
	for slot, k := range s.Keys {
		if k == nil || !slot.HoldsKey() || !k.sound() {
			return fmt.Errorf("%w: key %v", errState, slot)
		}
	}
	for o, b := range s.Objects {
		if len(b) > maxObject || !c.object(o) {
			return fmt.Errorf("%w: object %v", errState, o)
		}
	}
	return nil
}
