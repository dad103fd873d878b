package vpcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxPayload is the largest payload of a frame, in bytes: its length has 16 bits.
const maxPayload = 0xFFFF

var errEmptyFrame = errors.New("empty frame")

// readFrame reads length (2 bytes, big-endian) and payload. The driver sends the
// two in separate segments with Nagle's algorithm on, so the first one is
// acknowledged at once: without that each command takes 44 ms.
func readFrame(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading frame: %w", err)
	}
	acknowledge(r)
	n := binary.BigEndian.Uint16(head[:])
	if n == 0 {
		return nil, fmt.Errorf("reading frame: %w", errEmptyFrame)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, fmt.Errorf("reading frame: %w", err)
	}
	return payload, nil
}

// writeFrame writes a frame in one piece.
func writeFrame(w io.Writer, payload []byte) error {
	if len(payload) == 0 || len(payload) > maxPayload {
		return fmt.Errorf("writing frame: payload of %d bytes", len(payload))
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(payload)), uint16(len(payload)))
	if _, err := w.Write(append(b, payload...)); err != nil {
		return fmt.Errorf("writing frame: %w", err)
	}
	return nil
}
