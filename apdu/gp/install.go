package gp

import (
	"encoding/binary"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Values of P1 of INSTALL (GlobalPlatform 2.3.1 §11.5.2.1).
const (
	installForLoad        = 0x02
	installMakeSelectable = 0x08
	installAndSelectable  = 0x0C
	installExtradite      = 0x10
	installPersonalize    = 0x20
	installRegistryUpdate = 0x40
)

// LoadRequest announces a load file: INSTALL [for load].
type LoadRequest struct {
	LoadFile apdu.AID // the package
	Domain   apdu.AID // security domain it is to belong to; left out for OP201. Required under GP211
	CodeSize int      // bytes of code; 0 = the card is not told (no C6)
	Hash     []byte   // hash of the code, else empty
}

// codeOverhead is what Dogtag's TPS adds to the size of the file, besides the
// length of the domain's AID.
const codeOverhead = 24

// Command encodes the request.
func (q LoadRequest) Command(d Dialect) (apdu.Command, error) {
	domain := q.Domain
	if d == OP201 {
		domain = apdu.AID{}
	}
	var params []byte
	if q.CodeSize > 0 {
		params = tlv.Encode(0xEF, sizeLimit(0xC6, q.CodeSize+codeOverhead+domain.Len()))
	}
	var b fields
	b.lv(q.LoadFile.Bytes())
	b.lv(domain.Bytes())
	b.lv(q.Hash)
	b.blv(params)
	b.blv(nil) // no token
	return b.install(d, installForLoad)
}

// InstallRequest makes an application of a loaded module: INSTALL [for install
// and make selectable].
type InstallRequest struct {
	LoadFile   apdu.AID
	Module     apdu.AID
	Instance   apdu.AID // empty: as the module
	Privileges Privileges
	NonVolatile,
	Volatile int // memory limits in bytes (C8, C7); 0 = the card is not told
	Params []byte // what the applet gets (C9)
}

// Command encodes the request.
func (q InstallRequest) Command(d Dialect) (apdu.Command, error) {
	instance := q.Instance
	if instance.Len() == 0 {
		instance = q.Module
	}
	var limits, params []byte
	if q.Volatile > 0 {
		limits = append(limits, sizeLimit(0xC7, q.Volatile)...)
	}
	if q.NonVolatile > 0 {
		limits = append(limits, sizeLimit(0xC8, q.NonVolatile)...)
	}
	if len(limits) > 0 {
		params = tlv.Encode(0xEF, limits)
	}
	params = tlv.Append(params, 0xC9, q.Params)
	var b fields
	b.lv(q.LoadFile.Bytes())
	b.lv(q.Module.Bytes())
	b.lv(instance.Bytes())
	b.lv(q.Privileges.Bytes())
	b.blv(params)
	b.blv(nil)
	return b.install(d, installAndSelectable)
}

// MakeSelectableCommand is INSTALL [for make selectable]: it also gives an
// application new privileges (card reset makes it the default selected one).
func MakeSelectableCommand(d Dialect, app apdu.AID, p Privileges) (apdu.Command, error) {
	return registryCommand(d, installMakeSelectable, apdu.AID{}, app, p.Bytes())
}

// ExtraditeCommand is INSTALL [for extradition]: app moves to another domain.
func ExtraditeCommand(d Dialect, domain, app apdu.AID) (apdu.Command, error) {
	return registryCommand(d, installExtradite, domain, app, nil)
}

// PersonalizeCommand is INSTALL [for personalization]: the STORE DATA commands
// after it go to app.
func PersonalizeCommand(d Dialect, app apdu.AID) (apdu.Command, error) {
	return registryCommand(d, installPersonalize, apdu.AID{}, app, nil)
}

// RegistryUpdateCommand is INSTALL [for registry update]; the empty domain keeps
// the application where it is.
func RegistryUpdateCommand(d Dialect, domain, app apdu.AID, p Privileges) (apdu.Command, error) {
	return registryCommand(d, installRegistryUpdate, domain, app, p.Bytes())
}

func registryCommand(d Dialect, p1 byte, domain, app apdu.AID, privileges []byte) (apdu.Command, error) {
	var b fields
	b.lv(domain.Bytes())
	b.lv(nil)
	b.lv(app.Bytes())
	b.lv(privileges)
	b.blv(nil)
	b.blv(nil)
	return b.install(d, p1)
}

// sizeLimit is a memory limit of two bytes, four where it does not fit.
func sizeLimit(tag tlv.Tag, n int) []byte {
	if n <= 0xFFFF {
		return tlv.Encode(tag, binary.BigEndian.AppendUint16(nil, uint16(n)))
	}
	return tlv.Encode(tag, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// fields is a data field of length-value pairs. The first error sticks.
type fields struct {
	b   []byte
	err error
}

// lv appends a value of at most 255 bytes behind a one-byte length.
func (f *fields) lv(v []byte) {
	if len(v) > 255 && f.err == nil {
		f.err = fmt.Errorf("field of %d bytes", len(v))
	}
	f.b = append(append(f.b, byte(len(v))), v...)
}

// blv appends a value behind a BER length.
func (f *fields) blv(v []byte) { f.b = append(tlv.AppendLength(f.b, len(v)), v...) }

func (f *fields) install(d Dialect, p1 byte) (apdu.Command, error) {
	if f.err == nil && len(f.b) > apdu.MaxShortData {
		f.err = fmt.Errorf("data of %d bytes", len(f.b))
	}
	if f.err != nil {
		return apdu.Command{}, fmt.Errorf("encoding INSTALL %02X: %w", p1, f.err)
	}
	return command(0xE6, p1, 0x00, f.b, d.ne()), nil
}
