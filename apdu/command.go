package apdu

import (
	"errors"
	"fmt"
)

// Largest values of the length fields (ISO 7816-4 §5.2).
const (
	MaxShortData    = 255   // Nc of a short command
	MaxShortNe      = 256   // Ne of a short command, coded Le = 00
	MaxExtendedData = 65535 // Nc of an extended command
	MaxExtendedNe   = 65536 // Ne of an extended command, coded Le = 0000
)

// Command is a command APDU. Data is not copied; whoever runs the command does
// not retain it.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Ne               int // most response bytes expected; 0 = none, no Le field
}

// Extended reports whether the command needs extended length fields.
func (c Command) Extended() bool { return len(c.Data) > MaxShortData || c.Ne > MaxShortNe }

// Encode returns the command's bytes, short form where it fits (ISO 7816-4 §5.2).
func (c Command) Encode() ([]byte, error) {
	if len(c.Data) > MaxExtendedData || c.Ne < 0 || c.Ne > MaxExtendedNe {
		return nil, fmt.Errorf("command %02X%02X%02X%02X: lengths Nc=%d Ne=%d out of range", c.CLA, c.INS, c.P1, c.P2, len(c.Data), c.Ne)
	}
	b := make([]byte, 0, 4+3+len(c.Data)+3)
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if !c.Extended() {
		if len(c.Data) > 0 {
			b = append(b, byte(len(c.Data)))
			b = append(b, c.Data...)
		}
		if c.Ne > 0 {
			b = append(b, byte(c.Ne)) // 256 becomes 00
		}
		return b, nil
	}
	b = append(b, 0)
	if len(c.Data) > 0 {
		b = append(b, byte(len(c.Data)>>8), byte(len(c.Data)))
		b = append(b, c.Data...)
	}
	if c.Ne > 0 {
		b = append(b, byte(c.Ne>>8), byte(c.Ne)) // 65536 becomes 0000
	}
	return b, nil
}

var errMalformed = errors.New("malformed command APDU")

// ParseCommand decodes a command APDU of any of the seven cases. Data aliases b.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes", errMalformed, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	body := b[4:]
	switch {
	case len(body) == 0:
		return c, nil
	case len(body) == 1:
		c.Ne = orMax(int(body[0]), MaxShortNe)
		return c, nil
	case body[0] != 0:
		return parseShort(c, body)
	}
	return parseExtended(c, body)
}

func parseShort(c Command, body []byte) (Command, error) {
	n := int(body[0])
	switch len(body) - 1 - n {
	case 0:
	case 1:
		c.Ne = orMax(int(body[1+n]), MaxShortNe)
	default:
		return Command{}, fmt.Errorf("%w: Lc %d with %d bytes after it", errMalformed, n, len(body)-1)
	}
	c.Data = body[1 : 1+n : 1+n]
	return c, nil
}

func parseExtended(c Command, body []byte) (Command, error) {
	if len(body) < 3 {
		return Command{}, fmt.Errorf("%w: cut extended length", errMalformed)
	}
	n := int(body[1])<<8 | int(body[2])
	if len(body) == 3 {
		c.Ne = orMax(n, MaxExtendedNe)
		return c, nil
	}
	rest := body[3:]
	if n == 0 {
		return Command{}, fmt.Errorf("%w: extended Lc 0 with data", errMalformed)
	}
	switch len(rest) - n {
	case 0:
	case 2:
		c.Ne = orMax(int(rest[n])<<8|int(rest[n+1]), MaxExtendedNe)
	default:
		return Command{}, fmt.Errorf("%w: extended Lc %d with %d bytes after it", errMalformed, n, len(rest))
	}
	c.Data = rest[:n:n]
	return c, nil
}

func orMax(n, max int) int {
	if n == 0 {
		return max
	}
	return n
}

// Response is a response APDU: data and status word.
type Response struct {
	Data []byte
	SW   StatusWord
}

// ParseResponse decodes a response APDU. Data aliases b.
func ParseResponse(b []byte) (Response, error) {
	if len(b) < 2 {
		return Response{}, fmt.Errorf("response APDU of %d bytes has no status word", len(b))
	}
	n := len(b) - 2
	return Response{Data: b[:n:n], SW: StatusWord(b[n])<<8 | StatusWord(b[n+1])}, nil
}

// Encode returns data and status word.
func (r Response) Encode() []byte {
	b := make([]byte, 0, len(r.Data)+2)
	b = append(b, r.Data...)
	return append(b, byte(r.SW>>8), byte(r.SW))
}
