package coolkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/internal/rawrsa"
)

// Bounds of RSA key generation and import, bits.
const (
	minRSA  = 1024
	stepRSA = 256
)

func (a *Applet) rsaSize(bits int) bool {
	return bits >= minRSA && bits <= a.traits.maxRSA && bits%stepRSA == 0
}

// enrollment is the parsed data of START ENROLLMENT.
type enrollment struct {
	pair
	algorithm byte
	challenge []byte // plain
}

// enrollmentOf parses and checks START ENROLLMENT, all but the key size.
func (a *Applet) enrollmentOf(c call) (enrollment, apdu.StatusWord) {
	p, sw := a.pairOf(c)
	if sw != done {
		return enrollment{}, sw
	}
	if c.cmd.P1 == 0 && c.cmd.P2 == 0 { // old form
		p.private, p.public, p.use = 0, 1, ck.ACLEveryone
	}
	if len(c.data) != 23 {
		return enrollment{}, apdu.SWWrongLength
	}
	if sw := a.writable(c, p.private, p.public); sw != done {
		return enrollment{}, sw
	}
	p.bits = int(binary.BigEndian.Uint16(c.data[1:]))
	if c.data[5] != ck.ChallengeLen || c.data[22] != 0 {
		return enrollment{}, ck.SWBadWrappedKey
	}
	challenge, ok := c.env.Unwrap(c.data[6:22])
	if !ok || len(challenge) != ck.ChallengeLen {
		return enrollment{}, ck.SWBadWrappedKey
	}
	return enrollment{pair: p, algorithm: c.data[0], challenge: challenge}, done
}

func (a *Applet) generateRSA(c call) ([]byte, apdu.StatusWord) {
	e, sw := a.enrollmentOf(c)
	if sw != done {
		return nil, sw
	}
	if a.traits.has(rsaByName) && e.algorithm != 0x80 {
		return nil, ck.SWIncorrectAlgorithm
	}
	if !a.rsaSize(e.bits) {
		return nil, ck.SWKeySize
	}
	e.privateType, e.publicType = ck.KeyRSAPrivate, ck.KeyRSAPublic
	if sw := a.fits(e.pair); sw != done {
		return nil, sw
	}
	made, err := c.env.Keys().RSA(e.bits)
	if err != nil || made.N.BitLen() != e.bits {
		return nil, ck.SWInternal
	}
	private, public, err := rawrsa.New(made)
	if err != nil {
		return nil, ck.SWInternal
	}
	return a.prove(c, e, made, &key{RSA: private}, &key{RSA: public})
}

func (a *Applet) generateEC(c call) ([]byte, apdu.StatusWord) {
	e, sw := a.enrollmentOf(c)
	if sw != done {
		return nil, sw
	}
	if e.algorithm != 4 && e.algorithm != 5 {
		return nil, ck.SWIncorrectAlgorithm
	}
	curve, err := ck.CurveOfBits(e.bits)
	if err != nil {
		return nil, ck.SWKeySize
	}
	e.privateType, e.publicType = ck.KeyECPrivate, ck.KeyECPublic
	if sw := a.fits(e.pair); sw != done {
		return nil, sw
	}
	made, err := c.env.Keys().EC(curve)
	if err != nil {
		return nil, ck.SWInternal
	}
	private, public, err := newECKey(made)
	if err != nil {
		return nil, ck.SWInternal
	}
	return a.prove(c, e, made, &key{EC: private}, &key{EC: public})
}

// prove stores a new pair and leaves public key and proof of possession in the
// I/O buffer; the answer is how long they are.
func (a *Applet) prove(c call, e enrollment, made crypto.Signer, private, public *key) ([]byte, apdu.StatusWord) {
	blob, err := ck.EncodeKeyBlob(made.Public())
	if err != nil {
		return nil, ck.SWInternal
	}
	h := sha1.New()
	h.Write(blob)
	h.Write(e.challenge)
	proof, err := sign(c, made, h.Sum(nil))
	if err != nil {
		return nil, ck.SWInternal
	}
	result := appendCounted(appendCounted(nil, blob), proof)
	if len(result) > len(a.v.buffer.data) {
		return nil, ck.SWOutputTooSmall
	}
	a.store(c, e.pair, private, public)
	a.v.buffer.fill(result)
	return binary.BigEndian.AppendUint16(nil, uint16(len(result))), done
}

func sign(c call, made crypto.Signer, digest []byte) ([]byte, error) {
	switch k := made.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(c.env.Rand(), k, crypto.SHA1, digest)
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(c.env.Rand(), k, digest)
	}
	return made.Sign(c.env.Rand(), digest, crypto.SHA1)
}
