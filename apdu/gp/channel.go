package gp

import (
	"context"
	"fmt"

	"inkan/apdu"
)

// OpenChannel opens a supplementary logical channel and returns its number, 1 to
// 19 (MANAGE CHANNEL, ISO 7816-4 §11.1.2). A card without them answers
// apdu.SWChannelNotSupported, one with none free apdu.SWFuncNotSupported.
func OpenChannel(ctx context.Context, d apdu.Doer) (uint8, error) {
	b, err := apdu.Run(ctx, d, apdu.Command{INS: 0x70, Ne: 1})
	if err != nil {
		return 0, fmt.Errorf("opening logical channel: %w", err)
	}
	if len(b) != 1 || b[0] == 0 || b[0] > 19 {
		return 0, fmt.Errorf("opening logical channel: answer of %d bytes names no channel", len(b))
	}
	return b[0], nil
}

// CloseChannel closes a supplementary logical channel, 1 to 19.
func CloseChannel(ctx context.Context, d apdu.Doer, n uint8) error {
	if n == 0 || n > 19 {
		return fmt.Errorf("closing logical channel %d: no supplementary channel", n)
	}
	if _, err := apdu.Run(ctx, d, apdu.Command{INS: 0x70, P1: 0x80, P2: n}); err != nil {
		return fmt.Errorf("closing logical channel %d: %w", n, err)
	}
	return nil
}

// OnChannel is the command on logical channel n, 0 to 19, without secure
// messaging (ISO 7816-4 §5.4.1).
func OnChannel(c apdu.Command, n uint8) (apdu.Command, error) {
	switch {
	case n > 19:
		return c, fmt.Errorf("logical channel %d", n)
	case c.CLA&0x7F != 0:
		return c, fmt.Errorf("class %02X is not on the basic channel", c.CLA)
	case n < 4:
		c.CLA |= n
	default:
		c.CLA |= 0x40 | (n - 4)
	}
	return c, nil
}
