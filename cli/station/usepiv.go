package station

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// usePIV does nothing on a card without PIV or without certificates. The PIN is
// verified directly before each use, as keys want it whose PIN policy is always, but
// not where the slot needs none: the key has to work without.
func usePIV(ctx context.Context, d apdu.Doer, pin secret.PIN, roots *x509.CertPool) ([]Used, error) {
	if _, err := piv.Select(ctx, d); err != nil {
		if lost(err) {
			return nil, err
		}
		return nil, nil
	}
	defer piv.LogOut(context.WithoutCancel(ctx), d)
	var all []Used
	for _, slot := range piv.Slots() {
		cert, err := piv.ReadCertificate(ctx, d, slot)
		if refusal(err) {
			continue // there is none
		}
		var u Used
		if err == nil {
			u, err = useSlot(ctx, d, slot, cert, pin)
		}
		if err == nil {
			u.Trusted, err = trusted(cert, roots)
		}
		if err != nil {
			return all, fmt.Errorf("slot %v: %w", slot, err)
		}
		all = append(all, u)
	}
	return all, nil
}

func useSlot(ctx context.Context, d apdu.Doer, slot piv.Slot, cert *x509.Certificate, pin secret.PIN) (Used, error) {
	k, err := slotKey(slot, cert)
	if err != nil {
		return Used{}, err
	}
	u := Used{By: byInkan, Slot: slot.String(), Label: slot.Purpose(), Subject: name(cert.RawSubject), Key: keyName(k.Public), slot: slot, cert: cert}
	if u.pin = needsPIN(ctx, d, slot); u.pin {
		if err := piv.VerifyPIN(ctx, d, pin); err != nil {
			return u, err
		}
	}
	u.Did, err = usePair(k, cert, slotPair(ctx, d, k))
	return u, err
}

// slotKey is the key of a slot's certificate. Package x509 leaves X25519 out.
func slotKey(slot piv.Slot, cert *x509.Certificate) (piv.Key, error) {
	k := piv.Key{Slot: slot, Public: cert.PublicKey}
	if k.Public != nil {
		return k, nil
	}
	var err error
	if k.Public, err = x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo); err != nil {
		return k, fmt.Errorf("the certificate's key: %w", err)
	}
	return k, nil
}

// needsPIN asks the card, and where it tells no policies takes the slot's.
func needsPIN(ctx context.Context, d apdu.Doer, slot piv.Slot) bool {
	policy := piv.PINDefault
	if m, err := piv.ReadMetadata(ctx, d, slot); err == nil {
		policy = m.Policy.PIN
	}
	if policy == piv.PINDefault {
		policy = slot.DefaultPINPolicy()
	}
	return policy != piv.PINNever
}

// pair is a private key that somebody can use.
type pair struct {
	sign    func(h crypto.Hash, digest []byte) ([]byte, error)
	decrypt func(sealed []byte) ([]byte, error)
	derive  func(other *ecdh.PublicKey) ([]byte, error)
}

// slotPair is one that is used by our own commands.
func slotPair(ctx context.Context, d apdu.Doer, k piv.Key) pair {
	return pair{
		sign:    func(h crypto.Hash, digest []byte) ([]byte, error) { return k.SignDigest(ctx, d, h, digest) },
		decrypt: func(sealed []byte) ([]byte, error) { return k.DecryptPKCS1(ctx, d, sealed) },
		derive:  func(other *ecdh.PublicKey) ([]byte, error) { return k.ECDH(ctx, d, other) },
	}
}

// usePair has a key of the key management slots decrypt or agree, any other sign.
func usePair(k piv.Key, cert *x509.Certificate, p pair) (string, error) {
	management := k.Slot == piv.KeyManagement || k.Slot.RetiredNumber() > 0
	switch pub := k.Public.(type) {
	case *ecdh.PublicKey:
		return didAgree, agreed(pub, p.derive)
	case *ecdsa.PublicKey:
		if !management {
			break
		}
		theirs, err := pub.ECDH()
		if err != nil {
			return "", err
		}
		return didAgree, agreed(theirs, p.derive)
	case *rsa.PublicKey:
		if management {
			return didDecrypt, decipher(pub, p.decrypt)
		}
	}
	return didSign, challenge(cert, p.sign)
}
