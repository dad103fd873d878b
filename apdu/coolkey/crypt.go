package coolkey

import (
	"context"
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// Direction says what a raw RSA operation is for. With a private key both are
// the same operation; the applet checks the result of Sign against the public key.
type Direction byte

// Directions.
const (
	Sign    Direction = 0x03
	Decrypt Direction = 0x04
)

// Data locations and steps of COMPUTE CRYPT.
const (
	locationAPDU   = 0x01
	locationBuffer = 0x02
	stepOne        = 0x04
)

// maxInline is the largest input of a raw RSA operation sent in the command
// itself; both clients of the applet switch to the I/O buffer above it.
const maxInline = 200

// ComputeRSA runs the raw RSA operation of key n on a block as long as the
// modulus; padding is the caller's. Blocks of more than 200 bytes go through the
// I/O buffer. The key's use rule must include a's identity.
func ComputeRSA(ctx context.Context, d apdu.Doer, a Access, n KeyNumber, dir Direction, block []byte) ([]byte, error) {
	what := fmt.Sprintf("computing with key %d", n)
	if len(block) < 64 || len(block) > 512 {
		return nil, fmt.Errorf("%s: block of %d bytes", what, len(block))
	}
	if len(block) > maxInline {
		return computeBuffered(ctx, d, a, n, dir, block)
	}
	data := appendCounted([]byte{0, byte(dir), locationAPDU}, block)
	b, err := call(ctx, d, what, a.command(0x36, byte(n), stepOne, data, 2+len(block)), 0)
	if err != nil {
		return nil, err
	}
	return exactly(what, b, len(block))
}

func computeBuffered(ctx context.Context, d apdu.Doer, a Access, n KeyNumber, dir Direction, block []byte) ([]byte, error) {
	what := fmt.Sprintf("computing with key %d", n)
	size := len(block)
	es := WriteObjectEntries(a, IDIOBuffer, 0, binary.BigEndian.AppendUint16(nil, uint16(size)))
	es = append(es, WriteObjectEntries(a, IDIOBuffer, 2, block)...)
	compute := a.command(0x36, byte(n), stepOne, []byte{0, byte(dir), locationBuffer, 0, 0}, 0)
	es = append(es, a.entry(compute))
	reads := ReadObjectEntries(a, IDIOBuffer, 0, 2+size)
	rs, err := run(ctx, d, what, append(es, reads...))
	if err != nil {
		return nil, err
	}
	b, err := JoinReads(reads, rs[len(es):])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return exactly(what, b, size)
}

// exactly takes a counted answer of size bytes and nothing behind it.
func exactly(what string, b []byte, size int) ([]byte, error) {
	v, rest, ok := counted(b)
	if !ok || len(rest) != 0 || len(v) != size {
		return nil, fmt.Errorf("%s: answer of %d bytes is not a counted value of %d", what, len(b), size)
	}
	return v, nil
}

// SignECDSA signs a hash with EC key n in the form of OpenSC (INS 38): r and s,
// each as long as the curve's order. A hash longer than the order is truncated by
// the card.
func SignECDSA(ctx context.Context, d apdu.Doer, a Access, n KeyNumber, hash []byte) ([]byte, error) {
	what := fmt.Sprintf("signing with key %d", n)
	if len(hash) == 0 || len(hash) > 64 {
		return nil, fmt.Errorf("%s: hash of %d bytes", what, len(hash))
	}
	b, err := computeEC(ctx, d, what, a, 0x38, n, hash)
	if err == nil && (len(b) == 0 || len(b)%2 != 0) {
		err = fmt.Errorf("%s: signature of %d bytes", what, len(b))
	}
	return b, err
}

// DeriveECDH agrees on a secret with the peer's point (04, X, Y) and EC key n in
// the form of OpenSC (INS 37): the X coordinate of the result.
func DeriveECDH(ctx context.Context, d apdu.Doer, a Access, n KeyNumber, point []byte) ([]byte, error) {
	what := fmt.Sprintf("agreeing with key %d", n)
	if len(point) < 65 || len(point) > 133 || point[0] != 4 {
		return nil, fmt.Errorf("%s: not an uncompressed point", what)
	}
	b, err := computeEC(ctx, d, what, a, 0x37, n, point)
	if err == nil && len(b) != len(point)/2 {
		err = fmt.Errorf("%s: secret of %d bytes", what, len(b))
	}
	return b, err
}

func computeEC(ctx context.Context, d apdu.Doer, what string, a Access, ins byte, n KeyNumber, input []byte) ([]byte, error) {
	data := appendCounted([]byte{locationAPDU}, input)
	return call(ctx, d, what, a.command(ins, byte(n), stepOne, data, apdu.MaxShortNe), 0)
}
