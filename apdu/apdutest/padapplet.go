package apdutest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"inkan/apdu/gp/loadfile"
)

// PadApplet returns a load file of size bytes in all: its components (Java Card
// 2.2 VM specification §6) with filler behind the methods.
func PadApplet(applet []byte, size int) ([]byte, error) {
	f, err := loadfile.Parse(applet)
	if err != nil {
		return nil, fmt.Errorf("padding a load file: %w", err)
	}
	if size < len(applet) {
		return nil, fmt.Errorf("padding a load file of %d bytes to %d", len(applet), size)
	}
	var small int
	for _, c := range f.Components {
		if c.Tag == loadfile.Method {
			small = len(c.Body)
		}
	}
	big := small + size - len(applet)
	var out []byte
	for _, c := range f.Components {
		body := c.Body
		switch c.Tag {
		case loadfile.Method:
			body = append(bytes.Clone(body), bytes.Repeat([]byte{0x7A}, big-small)...)
		case loadfile.Directory: // lists the sizes of the others
			body = bytes.Replace(body, binary.BigEndian.AppendUint16(nil, uint16(small)), binary.BigEndian.AppendUint16(nil, uint16(big)), 1)
		}
		out = append(binary.BigEndian.AppendUint16(append(out, byte(c.Tag)), uint16(len(body))), body...)
	}
	return out, nil
}
