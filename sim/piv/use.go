package piv

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"

	"inkan/apdu"
	"inkan/apdu/piv"
)

// useKey signs, decrypts or agrees with the key of a slot.
func (a *Applet) useKey(c call, f fields) ([]byte, apdu.StatusWord) {
	slot := piv.Slot(c.cmd.P2)
	if !a.cfg.keySlot(slot) || slot == piv.Attestation {
		return nil, a.noSlot()
	}
	k := a.p.Keys[slot]
	if k == nil {
		return nil, a.emptySlot()
	}
	if !a.permitted(k.Policy.PIN, c) {
		return nil, apdu.SWSecurityStatus
	}
	if piv.Algorithm(c.cmd.P1) != k.Algorithm {
		return nil, apdu.SWIncorrectP1P2
	}
	challenge, signs := f.filled(tagChallenge)
	public, agrees := f.filled(tagExponent)
	if !f.asks(tagResponse) || signs == agrees || len(f) != 2 {
		return nil, apdu.SWWrongData
	}
	var out []byte
	var sw apdu.StatusWord
	if agrees {
		out, sw = k.agree(public)
	} else {
		out, sw = k.sign(c, challenge)
	}
	if sw != done {
		return nil, sw
	}
	return answer(tagResponse, out)
}

// permitted reports whether the PIN policy is met.
func (a *Applet) permitted(p piv.PINPolicy, c call) bool {
	switch p {
	case piv.PINNever:
		return true
	case piv.PINAlways:
		return c.fresh
	}
	return a.v.verified
}

func (k *key) sign(c call, input []byte) (out []byte, sw apdu.StatusWord) {
	var err error
	switch {
	case k.RSA != nil && len(input) != k.RSA.Size():
		return nil, apdu.SWWrongData
	case k.RSA != nil:
		out, err = k.RSA.Raw(c.env.Rand(), input)
	case k.Algorithm.Curve() != nil:
		var private *ecdsa.PrivateKey
		if private, err = k.ecdsa(); err == nil {
			out, err = ecdsa.SignASN1(c.env.Rand(), private, input)
		}
	case k.Algorithm == piv.Ed25519:
		var private ed25519.PrivateKey
		if private, err = k.ed25519(); err == nil {
			out = ed25519.Sign(private, input)
		}
	default:
		return nil, apdu.SWWrongData
	}
	if err != nil {
		return nil, apdu.SWWrongData
	}
	return out, done
}

// agree is X of the common point, or the secret of X25519.
func (k *key) agree(public []byte) ([]byte, apdu.StatusWord) {
	private, err := k.ecdh()
	if err != nil {
		return nil, apdu.SWWrongData
	}
	theirs, err := private.Curve().NewPublicKey(public)
	if err != nil {
		return nil, apdu.SWWrongData
	}
	secret, err := private.ECDH(theirs)
	if err != nil {
		return nil, apdu.SWWrongData
	}
	return secret, done
}

func (k *key) ecdh() (*ecdh.PrivateKey, error) {
	if k.Algorithm == piv.X25519 {
		return ecdh.X25519().NewPrivateKey(k.Scalar)
	}
	if k.Algorithm.Curve() == nil {
		return nil, errState
	}
	private, err := k.ecdsa()
	if err != nil {
		return nil, err
	}
	return private.ECDH()
}
