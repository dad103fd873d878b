package seal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"inkan/apdu/secret"
)

// Fixed makes a file of given data key and nonce, its slots by ps.
func Fixed(ctx context.Context, h Header, nonce []byte, dataKey secret.Secret, plaintext []byte, ps ...Protector) ([]byte, error) {
	h.nonce = nonce
	for i, p := range ps {
		s, err := p.protect(ctx, &h, uint8(i+1), dataKey)
		if err != nil {
			return nil, err
		}
		h.Slots = append(h.Slots, s)
	}
	return h.encode(dataKey, plaintext)
}

// Binding is the binding of a slot.
func Binding(h Header, slot uint8) []byte { return h.binding(slot) }

// Wrapped is the wrapped data key of a slot.
func (s Slot) Wrapped() []byte { return s.wrapped }

// Retrail gives altered bytes the check sum that they need to pass for whole.
func Retrail(b []byte) []byte {
	body := b[:len(b)-trailerSize]
	sum := sha256.Sum256(body)
	return append(append([]byte(nil), body...), sum[:]...)
}

// HeaderLength is H.
func HeaderLength(b []byte) int { return int(binary.BigEndian.Uint32(b[12:])) }

// OfFile gives an error of the file system its code.
var OfFile = ofFile
