package gp

import (
	"fmt"

	"inkan/apdu"
)

// StoreFormat says how the data of STORE DATA is structured and protected (P1,
// GlobalPlatform 2.3.1 §11.11.2.1).
type StoreFormat uint8

// Bits of a format; 00 promises nothing.
const (
	StoreDGI       StoreFormat = 0x08
	StoreBERTLV    StoreFormat = 0x10
	StoreEncrypted StoreFormat = 0x60 // under the data encryption key
)

// StoreDataCommands cuts data into STORE DATA commands of at most blockSize bytes
// (1 to 255), at most 256 of them; the last is marked.
func StoreDataCommands(data []byte, f StoreFormat, blockSize int) ([]apdu.Command, error) {
	if blockSize < 1 || blockSize > apdu.MaxShortData {
		return nil, fmt.Errorf("storing data: block size %d, want 1 to %d", blockSize, apdu.MaxShortData)
	}
	n := max(1, (len(data)+blockSize-1)/blockSize)
	if n > 256 {
		return nil, fmt.Errorf("storing data: %d blocks, at most 256", n)
	}
	cs := make([]apdu.Command, n)
	for i := range cs {
		size := min(blockSize, len(data))
		cs[i] = command(0xE2, byte(f)&0x78, byte(i), data[:size:size], 0)
		data = data[size:]
	}
	cs[n-1].P1 |= 0x80
	return cs, nil
}
