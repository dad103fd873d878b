package gp

import (
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Limits of a load file.
const (
	MaxLoadBlocks = 256   // the block number is one byte
	MaxCode       = 65535 // bytes of code
)

// LoadCommands cuts code into LOAD commands of at most blockSize data bytes (1 to
// 255; a secure channel needs room: 239 fits every level but the encrypting ones
// of SCP03 S16). The list is complete before the first block is sent: exactly the
// last one is marked, and what a card could not take is refused here.
func LoadCommands(code []byte, blockSize int) ([]apdu.Command, error) {
	switch {
	case blockSize < 1 || blockSize > apdu.MaxShortData:
		return nil, fmt.Errorf("cutting load file: block size %d, want 1 to %d", blockSize, apdu.MaxShortData)
	case len(code) == 0:
		return nil, errors.New("cutting load file: no code")
	case len(code) > MaxCode:
		return nil, fmt.Errorf("cutting load file: %d bytes of code, at most %d", len(code), MaxCode)
	}
	stream := tlv.Encode(0xC4, code)
	n := (len(stream) + blockSize - 1) / blockSize
	if n > MaxLoadBlocks {
		return nil, fmt.Errorf("cutting load file: %d blocks of %d bytes, at most %d", n, blockSize, MaxLoadBlocks)
	}
	cs := make([]apdu.Command, n)
	for i := range cs {
		size := min(blockSize, len(stream))
		cs[i] = command(0xE8, 0x00, byte(i), stream[:size:size], 0)
		stream = stream[size:]
	}
	cs[n-1].P1 = 0x80
	return cs, nil
}

// LoadEntries is the list that brings a load file onto the card: INSTALL [for
// load] and every LOAD. CodeSize, where q leaves it zero, is the size of the code.
// The list ends at the first refusal; power loss or another SELECT before the last
// block discards everything on the card.
func LoadEntries(d Dialect, q LoadRequest, code []byte, blockSize int) ([]apdu.Entry, error) {
	if q.CodeSize == 0 {
		q.CodeSize = len(code)
	}
	first, err := q.Command(d)
	if err != nil {
		return nil, err
	}
	blocks, err := LoadCommands(code, blockSize)
	if err != nil {
		return nil, err
	}
	return apdu.Entries(0, append([]apdu.Command{first}, blocks...)...), nil
}
