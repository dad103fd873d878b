package piv

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/apdu/tlv"
)

// Sign uses the private key of a slot on input, as the card does it:
//
//   - RSA: input is a padded block as long as the modulus, the answer its modular
//     exponentiation, which is also how RSA decrypts;
//   - P-256, P-384: input is a hash, the answer the ASN.1 of r and s;
//   - Ed25519: input is the message itself, the answer 64 bytes.
//
// Keys with the PIN policy always want [VerifyPIN] directly before.
func Sign(ctx context.Context, d apdu.Doer, slot Slot, alg Algorithm, input []byte) ([]byte, error) {
	what := fmt.Sprintf("using the key of slot %v", slot)
	return dynamic(ctx, d, what, alg, slot, tagResponse, SignFields(input))
}

// SignWithPIN is [VerifyPIN] and [Sign] in one list: the PIN comes directly before the
// use of the key. A refused PIN is a *[PINError].
func SignWithPIN(ctx context.Context, d apdu.Doer, slot Slot, alg Algorithm, pin secret.PIN, input []byte) ([]byte, error) {
	what := fmt.Sprintf("using the key of slot %v", slot)
	data, err := padded(pin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer clear(data)
	parts, err := apdu.Chain(SignCommand(slot, alg, input))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	verify := command(InsVerify, 0, p2PIN, data, 0)
	rs, err := apdu.RunAll(ctx, d, apdu.Entries(apdu.Plain, append([]apdu.Command{verify}, parts...)...))
	if len(rs) == 1 && err != nil {
		if e := refused("PIN", rs[0].SW); e != nil {
			err = e
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	v, ok := tlv.Find(rs[len(rs)-1].Data, tagTemplate, tagResponse)
	if !ok {
		return nil, fmt.Errorf("%s: no signature in the answer", what)
	}
	return v, nil
}

// SignFields are the fields of the template of [Sign]. PivApplet wants both.
func SignFields(input []byte) []byte {
	return tlv.Append(tlv.Encode(tagResponse), tagChallenge, input)
}

// SignCommand is the command of [Sign]; it may have to be chained.
func SignCommand(slot Slot, alg Algorithm, input []byte) apdu.Command {
	return authenticate(alg, slot, SignFields(input))
}

// Agree is the Diffie-Hellman agreement of the slot's key with a public key: the
// uncompressed point of P-256 or P-384, or the 32 bytes of X25519. The answer is
// the X coordinate, or the 32 bytes.
func Agree(ctx context.Context, d apdu.Doer, slot Slot, alg Algorithm, public []byte) ([]byte, error) {
	what := fmt.Sprintf("agreeing with the key of slot %v", slot)
	return dynamic(ctx, d, what, alg, slot, tagResponse, tlv.Append(tlv.Encode(tagResponse), tagExponent, public))
}

// Random has the card draw n random bytes, n being the block of the management
// key's algorithm: a challenge that nobody answers.
func Random(ctx context.Context, d apdu.Doer, alg Algorithm) ([]byte, error) {
	return dynamic(ctx, d, "drawing random bytes", alg, Management, tagChallenge, tlv.Encode(tagChallenge))
}
