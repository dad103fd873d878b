package coolkey

import (
	"encoding/binary"
	"errors"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/internal/rawrsa"
)

// Steps and data locations of COMPUTE CRYPT.
const (
	stepInit    = 0x01
	stepProcess = 0x02
	stepFinal   = 0x03
	stepOne     = 0x04

	locationAPDU   = 0x01
	locationBuffer = 0x02
)

// usable is the key of P1 if c may use it.
func (a *Applet) usable(c call) (*key, apdu.StatusWord) {
	n := int(c.cmd.P1)
	if n >= len(a.p.Keys) || !a.p.Keys[n].used() {
		return nil, ck.SWIncorrectP1
	}
	k := a.p.Keys[n]
	if !c.allowed(k.ACL.Use) {
		return nil, ck.SWUnauthorized
	}
	return k, done
}

// computeCrypt is the raw RSA operation; padding is the client's work.
func (a *Applet) computeCrypt(c call) ([]byte, apdu.StatusWord) {
	k, sw := a.usable(c)
	if sw != done {
		return nil, sw
	}
	if k.RSA == nil {
		return nil, ck.SWKeyTypeUnsupported
	}
	switch c.cmd.P2 {
	case stepInit:
		return nil, a.cryptInit(c)
	case stepProcess:
		return nil, ck.SWKeyTypeUnsupported
	case stepFinal:
		if a.v.initKey != int(c.cmd.P1) {
			return nil, apdu.SWConditionsOfUse
		}
		a.v.initKey = -1
		return a.cryptFinal(c, k, c.data)
	case stepOne:
		if len(c.data) < 3 {
			return nil, ck.SWInvalidParameter
		}
		if sw := cryptParameters(c.data); sw != done {
			return nil, sw
		}
		return a.cryptFinal(c, k, c.data[2:])
	}
	return nil, ck.SWIncorrectP2
}

func (a *Applet) cryptInit(c call) apdu.StatusWord {
	if len(c.data) != 5 {
		return ck.SWInvalidParameter
	}
	if sw := cryptParameters(c.data); sw != done {
		return sw
	}
	if binary.BigEndian.Uint16(c.data[3:]) != 0 {
		return ck.SWDataSize
	}
	a.v.initKey = int(c.cmd.P1)
	return done
}

// cryptParameters checks mode, direction and location.
func cryptParameters(b []byte) apdu.StatusWord {
	switch mode := b[0]; {
	case mode == 1:
		return ck.SWModeUnsupported
	case mode != 0:
		return ck.SWModeInvalid
	}
	switch b[1] {
	case 1, 2:
		return ck.SWDirUnsupported
	case 3, 4:
	default:
		return ck.SWDirInvalid
	}
	if b[2] != locationAPDU && b[2] != locationBuffer {
		return ck.SWLocationInvalid
	}
	return done
}

// cryptFinal takes location and, in the APDU form, a counted block.
func (a *Applet) cryptFinal(c call, k *key, b []byte) ([]byte, apdu.StatusWord) {
	if len(b) < 1 {
		return nil, ck.SWInvalidParameter
	}
	source := b[1:]
	switch b[0] {
	case locationAPDU:
		if 2+k.RSA.Size() > maxAnswer {
			return nil, ck.SWOutputTooSmall
		}
	case locationBuffer:
		source = a.v.buffer.data[:a.v.buffer.size]
	default:
		return nil, ck.SWLocationInvalid
	}
	if len(source) < 2 || len(source)-2 < int(binary.BigEndian.Uint16(source)) {
		return nil, ck.SWInputTooSmall
	}
	block := source[2 : 2+int(binary.BigEndian.Uint16(source))]
	if len(block) != k.RSA.Size() {
		return nil, ck.SWDataSize
	}
	result, err := k.RSA.Raw(c.env.Rand(), block)
	switch {
	case errors.Is(err, rawrsa.ErrRange):
		return nil, ck.SWInvalidParameter
	case err != nil:
		return nil, ck.SWInternal
	}
	answer := appendCounted(nil, result)
	if b[0] == locationAPDU {
		return answer, done
	}
	a.v.buffer.fill(answer)
	return nil, done
}
