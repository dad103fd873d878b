package pcsc

import (
	"fmt"

	"inkan/apdu"
)

// maxCommand is the longest command APDU: header, extended Lc, data, extended Le.
const maxCommand = 4 + 3 + apdu.MaxExtendedData + 2

// frame makes of a command APDU what the reader is given. Over T=1 that is the
// APDU. Over T=0 it is a TPDU with a five-byte header: a command that both sends
// and expects data goes without Le, and its answer is fetched with GET RESPONSE
// (ISO 7816-3 §12.2).
func frame(p protocol, cmd []byte) ([]byte, error) {
	if len(cmd) < 4 || len(cmd) > maxCommand {
		return nil, fmt.Errorf("command APDU of %d bytes, want 4 to %d", len(cmd), maxCommand)
	}
	if err := p.check(); err != nil || p == protocolT1 {
		return cmd, err
	}
	c, err := apdu.ParseCommand(cmd)
	if err != nil {
		return nil, err
	}
	if len(cmd) > 5 && cmd[4] == 0 {
		return nil, fmt.Errorf("%w: extended length over T=0", apdu.ErrUnsupported)
	}
	switch {
	case len(cmd) == 4:
		return append(cmd[:4:4], 0), nil
	case len(c.Data) > 0:
		return cmd[:5+len(c.Data)], nil
	}
	return cmd, nil
}
