package apdu

import "fmt"

// Bits of the class byte (ISO 7816-4 §5.4.1; GlobalPlatform 2.3.1 §11.1.4 codes
// proprietary classes alike).
const (
	claFurther   = 0x40 // further interindustry: channels 4 to 19
	claSMFirst   = 0x0C // secure messaging in a first interindustry class
	claSMFurther = 0x20 // secure messaging in a further interindustry class
	claChained   = 0x10 // more parts of this command follow
)

// Secured reports whether the class byte says that the command carries secure
// messaging. Such a command must never be sent twice.
func (c Command) Secured() bool {
	if c.CLA&claFurther != 0 {
		return c.CLA&claSMFurther != 0
	}
	return c.CLA&claSMFirst != 0
}

// channelCLA is the plain interindustry class of the logical channel of cla.
func channelCLA(cla byte) byte {
	if cla&claFurther != 0 {
		return claFurther | cla&0x0F
	}
	return cla & 0x03
}

// Chain splits a command into short ones for a card without extended length
// (ISO 7816-4 §5.3.3): every part but the last has CLA bit 10 set, the last
// carries Le, at most 256. A command that fits comes back alone. It fails for a
// class byte that has no place for the bit.
func Chain(c Command) ([]Command, error) {
	c.Ne = min(c.Ne, MaxShortNe)
	if len(c.Data) <= MaxShortData {
		return []Command{c}, nil
	}
	if c.CLA&claChained != 0 {
		return nil, fmt.Errorf("chaining command of class %02X: %w", c.CLA, ErrUnsupported)
	}
	var parts []Command
	rest := c.Data
	for len(rest) > MaxShortData {
		parts = append(parts, Command{CLA: c.CLA | claChained, INS: c.INS, P1: c.P1, P2: c.P2, Data: rest[:MaxShortData:MaxShortData]})
		rest = rest[MaxShortData:]
	}
	c.Data = rest
	return append(parts, c), nil
}
