package gp

import (
	"inkan/apdu"
)

// Dialect is the version of the command encodings that a card manager expects.
type Dialect uint8

// Dialects. GP211 is right for every card that speaks SCP02 or SCP03.
const (
	GP211 Dialect = iota // GlobalPlatform 2.1.1 and later
	OP201                // Open Platform 2.0.1: no Le, no security domain in INSTALL, DELETE without P2 80
)

// String is the name of the specification.
func (d Dialect) String() string {
	if d == OP201 {
		return "Open Platform 2.0.1"
	}
	return "GlobalPlatform 2.1.1"
}

// DialectOf is the dialect that goes with a secure channel protocol (01, 02, 03).
func DialectOf(protocol uint8) Dialect {
	if protocol == 1 {
		return OP201
	}
	return GP211
}

// ne is the Ne of a content management command.
func (d Dialect) ne() int {
	if d == OP201 {
		return 0
	}
	return apdu.MaxShortNe
}

// command is a proprietary command in the channelless, plain class 80; a secure
// channel session turns the class into 84.
func command(ins, p1, p2 byte, data []byte, ne int) apdu.Command {
	return apdu.Command{CLA: 0x80, INS: ins, P1: p1, P2: p2, Data: data, Ne: ne}
}
