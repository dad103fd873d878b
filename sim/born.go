package sim

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/BurntSushi/toml"

	apiv "inkan/apdu/piv"
	"inkan/sim/gp"
	"inkan/sim/piv"
)

// pivEntry is what a PIV applet on the card is: kind, firmware, algorithms of key
// pairs, and the management key a card leaves the factory with.
type pivEntry struct {
	Kind       piv.Kind `toml:"kind"`
	Firmware   string   `toml:"firmware"`
	Algorithms []string `toml:"algorithms"`
	Management string   `toml:"management_algorithm"`
	Key        hexBytes `toml:"management_key"`
	Attest     *bool    `toml:"attestation"`
}

// config is the zero value, a PivApplet, for a model that says nothing of PIV.
func (e *pivEntry) config() (c piv.Config, err error) {
	if e == nil {
		return c, nil
	}
	c.Kind, c.ManagementKey, c.NoAttestation = e.Kind, e.Key, e.Attest != nil && !*e.Attest
	if e.Firmware != "" {
		if c.Firmware, err = apiv.ParseVersion(e.Firmware); err != nil {
			return c, fmt.Errorf("piv: %w", err)
		}
	}
	for _, name := range e.Algorithms {
		alg, err := apiv.ParseAlgorithm(name)
		if err != nil {
			return c, fmt.Errorf("piv: %w", err)
		}
		c.Algorithms = append(c.Algorithms, alg)
	}
	if e.Management != "" {
		if c.ManagementAlgorithm, err = apiv.ParseAlgorithm(e.Management); err != nil {
			return c, fmt.Errorf("piv: %w", err)
		}
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("piv: %w", err)
	}
	return c, nil
}

// fixed is a model without a card manager.
func (d *document) fixed(meta toml.MetaData) (Model, error) {
	for _, key := range []string{"scp", "key_set", "cplc", "life_cycle", "coolkey", "memory"} {
		if meta.IsDefined(key) {
			return Model{}, fmt.Errorf("%s without isd_aid", key)
		}
	}
	var p gp.Profile
	if err := errors.Join(d.applets(&p), d.quirks(&p)); err != nil {
		return Model{}, err
	}
	if err := p.Check(); err != nil {
		return Model{}, err
	}
	c, err := d.PIV.config()
	if err != nil {
		return Model{}, err
	}
	return Model{Title: d.Title, ATR: d.ATR, PIV: c, profile: p}, nil
}

// Offsets in the CPLC (Card Specification 2.3.1 §H.6).
const (
	cplcFabricationDate = 10
	cplcSerial          = 12
	cplcBatch           = 16
)

// MaxSerial is the largest serial number: 32 bits go to the serial number of the
// CPLC, 16 to its batch.
const MaxSerial = 1<<48 - 1

// Serial numbers of PIV cards without a card manager: those that no real card has.
const (
	minPIVSerial = 0xF0000000
	maxPIVSerial = 0xFFFFFFFF
)

// checkSerial refuses a serial number that a card of the model cannot have.
func (m Model) checkSerial(n uint64) error {
	switch {
	case m.profile.NoManager() && (n < minPIVSerial || n > maxPIVSerial):
		return fmt.Errorf("serial number %d: a software card %s has one from %d to %d", n, m.Name, uint64(minPIVSerial), uint64(maxPIVSerial))
	case n > MaxSerial:
		return fmt.Errorf("serial number %d is larger than %d", n, uint64(MaxSerial))
	}
	return nil
}

// drawSerial draws a serial number above zero; nil is crypto/rand.
func (m Model) drawSerial(r io.Reader) (uint64, error) {
	if r == nil {
		r = rand.Reader
	}
	var b [8]byte
	if _, err := io.ReadFull(r, b[2:]); err != nil {
		return 0, fmt.Errorf("drawing a serial number: %w", err)
	}
	n := binary.BigEndian.Uint64(b[:])
	if m.profile.NoManager() {
		return minPIVSerial | n&(maxPIVSerial-minPIVSerial), nil
	}
	return max(n, 1), nil
}

// born is the profile of one card of the model, and what a PIV applet on it is. Its
// key diversification data follow from its CPLC as on most chips: 0000, fabrication
// date, serial, batch. Without a card manager the serial number is the applet's.
func (m Model) born(serial uint64) (gp.Profile, piv.Config) {
	p, c := m.profile, m.PIV
	if p.NoManager() {
		c.Serial = uint32(serial)
		return p, c
	}
	binary.BigEndian.PutUint32(p.CPLC[cplcSerial:], uint32(serial))
	binary.BigEndian.PutUint16(p.CPLC[cplcBatch:], uint16(serial>>32))
	copy(p.KDD[2:4], p.CPLC[cplcFabricationDate:])
	copy(p.KDD[4:8], p.CPLC[cplcSerial:])
	copy(p.KDD[8:], p.CPLC[cplcBatch:])
	return p, c
}
