package coolkey

import (
	"context"
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// GenerateAndReadRSA is [GenerateRSA] and [ReadKeyResult]. Where d carries lists
// in one go both travel together: the size of an RSA key's result is known before.
func GenerateAndReadRSA(ctx context.Context, d apdu.Doer, s Slots, bits int, challenge []byte) (KeyResult, error) {
	c, err := GenerateRSACommand(s, bits, challenge)
	if err != nil {
		return KeyResult{}, err
	}
	var reads []apdu.Entry
	if apdu.Together(d) > 1 {
		reads = ReadObjectEntries(Channel(), IDIOBuffer, 0, rsaResultLen(bits))
	}
	// No list is run again: the key is made by its first command.
	rs, err := apdu.DoAll(ctx, d, append([]apdu.Entry{{Command: c}}, reads...))
	if err == nil && len(rs) == 0 {
		err = fmt.Errorf("list of %d commands: no answer", 1+len(reads))
	}
	if err == nil {
		err = rs[0].Check(c)
	}
	if err == nil && len(rs[0].Data) < 2 {
		err = fmt.Errorf("answer of %d bytes, want 2", len(rs[0].Data))
	}
	if err != nil {
		return KeyResult{}, fmt.Errorf("generating key %d: %w", s.Private, named(err))
	}
	size := int(binary.BigEndian.Uint16(rs[0].Data))
	if len(reads) > 0 && size == rsaResultLen(bits) {
		if b, err := JoinReads(reads, rs[1:]); err == nil {
			return ParseKeyResult(b)
		}
	}
	return ReadKeyResult(ctx, d, size)
}

// GenerateAndReadEC is [GenerateEC] and [ReadKeyResult], whose size only the card
// knows: the proof is a signature in DER.
func GenerateAndReadEC(ctx context.Context, d apdu.Doer, s Slots, bits int, challenge []byte) (KeyResult, error) {
	size, err := GenerateEC(ctx, d, s, bits, challenge)
	if err != nil {
		return KeyResult{}, err
	}
	return ReadKeyResult(ctx, d, size)
}

// rsaResultLen is the size of the result of an RSA key with the exponent 65537:
// the counted blob (encoding, type, bits, counted modulus, counted exponent) and
// the counted signature.
func rsaResultLen(bits int) int {
	n := (bits + 7) / 8
	return 2 + (4 + 2 + n + 2 + 3) + 2 + n
}
