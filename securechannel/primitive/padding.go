package primitive

import "errors"

// ErrPadding means that data does not end in a padding 80 00….
var ErrPadding = errors.New("wrong padding")

// Pad80 returns a copy of data with 80 and then 00 up to a multiple of block
// bytes (ISO 9797-1 padding method 2). At least one byte is added.
func Pad80(data []byte, block int) []byte {
	out := make([]byte, len(data)+block-len(data)%block)
	copy(out, data)
	out[len(data)] = 0x80
	return out
}

// Unpad80 strips trailing 00 and then exactly one 80. The padding may be longer
// than one block: cards do that. The result aliases data; the error is [ErrPadding].
func Unpad80(data []byte) ([]byte, error) {
	n := len(data)
	for n > 0 && data[n-1] == 0 {
		n--
	}
	if n == 0 || data[n-1] != 0x80 {
		return nil, ErrPadding
	}
	return data[: n-1 : n-1], nil
}
