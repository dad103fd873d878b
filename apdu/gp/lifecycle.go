package gp

import (
	"context"
	"fmt"

	"inkan/apdu"
)

// LifeCycle is a life cycle state byte (GlobalPlatform 2.3.1 §11.1.1). What a
// value means depends on whose state it is.
type LifeCycle uint8

// Card states (those of the issuer security domain). They only go forward, save
// for 7F back to 0F.
const (
	CardOPReady     LifeCycle = 0x01
	CardInitialized LifeCycle = 0x07
	CardSecured     LifeCycle = 0x0F
	CardLocked      LifeCycle = 0x7F
	CardTerminated  LifeCycle = 0xFF
)

// States of load files, applications and security domains.
const (
	FileLoaded         LifeCycle = 0x01
	AppInstalled       LifeCycle = 0x03
	AppSelectable      LifeCycle = 0x07
	DomainPersonalized LifeCycle = 0x0F
	LockedBit          LifeCycle = 0x80 // on top of an application's previous state
)

// String is two upper-case hexadecimal digits.
func (l LifeCycle) String() string { return fmt.Sprintf("%02X", uint8(l)) }

// Target is what SET STATUS acts on (P1).
type Target uint8

// Targets.
const (
	TargetCard        Target = 0x80
	TargetApplication Target = 0x40
	TargetDomainTree  Target = 0x60 // a security domain and all its applications
)

// SetStatusCommand is SET STATUS (GlobalPlatform 2.3.1 §11.10). The card as
// target takes no AID. For an application only bit 80 of the state counts when
// it locks or unlocks.
func SetStatusCommand(target Target, state LifeCycle, aid apdu.AID) apdu.Command {
	var data []byte
	if target != TargetCard {
		data = aid.Bytes()
	}
	return command(0xF0, byte(target), byte(state), data, 0)
}

// SetStatus changes a life cycle state. TERMINATED cannot be undone.
func SetStatus(ctx context.Context, d apdu.Doer, target Target, state LifeCycle, aid apdu.AID) error {
	if _, err := apdu.Run(ctx, d, SetStatusCommand(target, state, aid)); err != nil {
		return fmt.Errorf("setting state %v: %w", state, err)
	}
	return nil
}

// Privileges are an application's privileges, three bytes of which the first is
// the most significant (GlobalPlatform 2.3.1 §11.1.2).
type Privileges uint32

// Privileges of the first byte, and those of the others that hosts name.
const (
	PrivSecurityDomain   Privileges = 0x800000
	PrivDAPVerification  Privileges = 0xC00000
	PrivDelegated        Privileges = 0xA00000
	PrivCardLock         Privileges = 0x100000
	PrivCardTerminate    Privileges = 0x080000
	PrivCardReset        Privileges = 0x040000 // default selected
	PrivCVMManagement    Privileges = 0x020000
	PrivMandatedDAP      Privileges = 0xC10000
	PrivTrustedPath      Privileges = 0x008000
	PrivAuthorizedManage Privileges = 0x004000
	PrivTokenVerify      Privileges = 0x002000
	PrivGlobalDelete     Privileges = 0x001000
	PrivGlobalLock       Privileges = 0x000800
	PrivGlobalRegistry   Privileges = 0x000400
	PrivFinal            Privileges = 0x000200
	PrivGlobalService    Privileges = 0x000100
)

// ParsePrivileges reads one to three bytes; missing ones are 00.
func ParsePrivileges(b []byte) (Privileges, error) {
	if len(b) > 3 {
		return 0, fmt.Errorf("privileges of %d bytes", len(b))
	}
	return Privileges(bigEndian(b)) << (8 * (3 - len(b))), nil
}

// Bytes is one byte where that is enough, as every card takes it, else three.
func (p Privileges) Bytes() []byte {
	if p&0xFFFF == 0 {
		return []byte{byte(p >> 16)}
	}
	return []byte{byte(p >> 16), byte(p >> 8), byte(p)}
}

// Has reports whether all of q is granted.
func (p Privileges) Has(q Privileges) bool { return p&q == q }
