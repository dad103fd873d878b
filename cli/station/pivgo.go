//go:build cgo || windows

package station

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	pivgo "github.com/go-piv/piv-go/v2/piv"

	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// piv-go takes a card exclusively: another program may still have it.
const (
	openFor   = 10 * time.Second
	openAgain = 100 * time.Millisecond
)

// usePIVGo uses the PIV slots that were used before with piv-go, and compares their
// certificates. A card that tells no version is not for it, and left alone.
func usePIVGo(ctx context.Context, reader string, pin secret.PIN, before []Used) ([]Used, error) {
	var slots []Used
	for _, u := range before {
		if u.cert != nil {
			slots = append(slots, u)
		}
	}
	if len(slots) == 0 {
		return nil, nil
	}
	yk, err := openPIVGo(ctx, reader)
	if err != nil {
		return nil, fmt.Errorf("opening the card with piv-go: %w", err)
	}
	defer yk.Close()
	var all []Used
	for _, u := range slots {
		did, err := slotByPIVGo(yk, u, pin)
		if err != nil {
			return all, fmt.Errorf("slot %s, with piv-go: %w", u.Slot, err)
		}
		u.By, u.Did = byPIVGo, did
		all = append(all, u)
	}
	return all, nil
}

func openPIVGo(ctx context.Context, reader string) (*pivgo.YubiKey, error) {
	ctx, cancel := context.WithTimeout(ctx, openFor)
	defer cancel()
	for {
		yk, err := pivgo.Open(reader)
		if err == nil {
			return yk, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(openAgain):
		}
	}
}

// slotByPIVGo gives the PIN policy, which piv-go reads in a way that not every card
// takes. Its PIN is a string: nothing wipes that.
func slotByPIVGo(yk *pivgo.YubiKey, u Used, pin secret.PIN) (string, error) {
	slot, err := pivgoSlot(u.slot)
	if err != nil {
		return "", err
	}
	cert, err := yk.Certificate(slot)
	if err != nil {
		return "", err
	}
	if !cert.Equal(u.cert) {
		return "", errors.New("it reads another certificate")
	}
	auth := pivgo.KeyAuth{PINPolicy: pivgo.PINPolicyNever}
	if u.pin {
		auth = pivgo.KeyAuth{PINPolicy: pivgo.PINPolicyAlways, PIN: string(pin.Bytes())}
	}
	k, err := slotKey(u.slot, cert)
	if err != nil {
		return "", err
	}
	private, err := yk.PrivateKey(slot, k.Public, auth)
	if err != nil {
		return "", err
	}
	return usePair(k, cert, pivgoPair(private))
}

func pivgoSlot(s piv.Slot) (pivgo.Slot, error) {
	if n := s.RetiredNumber(); n > 0 {
		if slot, ok := pivgo.RetiredKeyManagementSlot(uint32(s)); ok {
			return slot, nil
		}
	}
	for _, slot := range []pivgo.Slot{pivgo.SlotAuthentication, pivgo.SlotSignature, pivgo.SlotKeyManagement, pivgo.SlotCardAuthentication} {
		if slot.Key == uint32(s) {
			return slot, nil
		}
	}
	return pivgo.Slot{}, fmt.Errorf("it knows no slot %v", s)
}

// pivgoPair is a key of piv-go.
func pivgoPair(key crypto.PrivateKey) pair {
	cannot := func(doing string) error { return fmt.Errorf("%s with a %T: %w", doing, key, errors.ErrUnsupported) }
	return pair{
		sign: func(h crypto.Hash, digest []byte) ([]byte, error) {
			if s, ok := key.(crypto.Signer); ok {
				return s.Sign(rand.Reader, digest, h)
			}
			return nil, cannot("signing")
		},
		decrypt: func(sealed []byte) ([]byte, error) {
			if d, ok := key.(crypto.Decrypter); ok {
				return d.Decrypt(rand.Reader, sealed, nil)
			}
			return nil, cannot("decrypting")
		},
		derive: func(other *ecdh.PublicKey) ([]byte, error) {
			type agreer interface {
				ECDH(*ecdh.PublicKey) ([]byte, error)
			}
			if d, ok := key.(agreer); ok {
				return d.ECDH(other)
			}
			return nil, cannot("agreeing")
		},
	}
}
