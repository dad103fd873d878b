package gp

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Scope is the part of the card's registry that GET STATUS lists (P1).
type Scope uint8

// Scopes.
const (
	ScopeIssuerDomain Scope = 0x80
	ScopeApplications Scope = 0x40 // applications and supplementary security domains
	ScopeLoadFiles    Scope = 0x20
	ScopeModules      Scope = 0x10 // load files with their modules
)

// RegistryEntry is one entry of the card's registry (GlobalPlatform 2.3.1
// §11.4.3.1). What the card does not tell is zero.
type RegistryEntry struct {
	AID        apdu.AID
	LifeCycle  LifeCycle
	Privileges Privileges
	LoadFile   apdu.AID // an application's load file
	Domain     apdu.AID // security domain it belongs to
	Version    []byte   // of a load file: major, minor
	Modules    []apdu.AID
}

// Limits of one listing.
const (
	maxStatusPages = 256
	maxStatusBytes = 1 << 16
)

// GetStatus lists registry entries whose AID begins with filter (the empty AID:
// all), page after page. A card with none gives an empty list. The tagged format
// is asked for; a card that refuses it with 6A86 is asked for the old one. The
// card demands an authenticated secure channel (else apdu.SWSecurityStatus).
func GetStatus(ctx context.Context, d apdu.Doer, scope Scope, filter apdu.AID) ([]RegistryEntry, error) {
	b, err := getStatus(ctx, d, scope, 0x02, filter)
	parse := parseTagged
	if errors.Is(err, apdu.SWIncorrectP1P2) {
		b, err = getStatus(ctx, d, scope, 0x00, filter)
		parse = func(b []byte) ([]RegistryEntry, error) { return parseUntagged(b, scope) }
	}
	if errors.Is(err, apdu.SWReferencedNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing registry %02X: %w", uint8(scope), err)
	}
	es, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("listing registry %02X: %w", uint8(scope), err)
	}
	return es, nil
}

// getStatus collects the pages of one listing. Pages end between entries.
func getStatus(ctx context.Context, d apdu.Doer, scope Scope, format byte, filter apdu.AID) ([]byte, error) {
	var all []byte
	cmd := command(0xF2, byte(scope), format, tlv.Encode(0x4F, filter.Bytes()), apdu.MaxShortNe)
	for range maxStatusPages {
		r, err := d.Do(ctx, cmd)
		if err != nil {
			return nil, err
		}
		more := r.SW == apdu.SWMoreData
		if err := r.Check(cmd); err != nil && !more {
			return nil, err
		}
		if all = append(all, r.Data...); len(all) > maxStatusBytes {
			return nil, fmt.Errorf("more than %d bytes", maxStatusBytes)
		}
		if !more {
			return all, nil
		}
		cmd.P2 = format | 0x01
	}
	return nil, fmt.Errorf("more than %d pages", maxStatusPages)
}

func parseTagged(b []byte) ([]RegistryEntry, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return nil, err
	}
	var es []RegistryEntry
	for _, t := range ts {
		if t.Tag != 0xE3 {
			continue
		}
		e, err := parseEntry(t)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(es)+1, err)
		}
		es = append(es, e)
	}
	return es, nil
}

func parseEntry(entry tlv.TLV) (RegistryEntry, error) {
	var e RegistryEntry
	ts, err := entry.Children()
	if err != nil {
		return e, err
	}
	for _, t := range ts {
		var err error
		switch t.Tag {
		case 0x4F:
			e.AID, err = apdu.NewAID(t.Value)
		case 0xC4:
			e.LoadFile, err = apdu.NewAID(t.Value)
		case 0xCC:
			e.Domain, err = apdu.NewAID(t.Value)
		case 0x84:
			var m apdu.AID
			m, err = apdu.NewAID(t.Value)
			e.Modules = append(e.Modules, m)
		case 0xC5:
			e.Privileges, err = ParsePrivileges(t.Value)
		case 0xCE:
			e.Version = append([]byte(nil), t.Value...)
		case 0x9F70:
			if len(t.Value) > 0 { // some cards add a second byte for contactless use
				e.LifeCycle = LifeCycle(t.Value[0])
			}
		}
		if err != nil {
			return e, fmt.Errorf("tag %v: %w", t.Tag, err)
		}
	}
	return e, nil
}

// parseUntagged reads the old format: L AID, state, privileges; with modules also
// their number and L AID of each.
func parseUntagged(b []byte, scope Scope) ([]RegistryEntry, error) {
	var es []RegistryEntry
	for len(b) > 0 {
		var e RegistryEntry
		var err error
		if e.AID, b, err = cutAID(b); err != nil {
			return nil, err
		}
		if len(b) < 2 {
			return nil, errors.New("entry is cut")
		}
		e.LifeCycle, e.Privileges = LifeCycle(b[0]), Privileges(b[1])<<16
		b = b[2:]
		if scope == ScopeModules {
			if e.Modules, b, err = cutModules(b); err != nil {
				return nil, err
			}
		}
		es = append(es, e)
	}
	return es, nil
}

func cutModules(b []byte) ([]apdu.AID, []byte, error) {
	if len(b) == 0 {
		return nil, nil, errors.New("entry is cut")
	}
	n, b := int(b[0]), b[1:]
	var ms []apdu.AID
	for range n {
		m, rest, err := cutAID(b)
		if err != nil {
			return nil, nil, err
		}
		ms, b = append(ms, m), rest
	}
	return ms, b, nil
}

func cutAID(b []byte) (apdu.AID, []byte, error) {
	v, rest, err := cutLV(b)
	if err != nil {
		return apdu.AID{}, nil, err
	}
	aid, err := apdu.NewAID(v)
	return aid, rest, err
}
