//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// Plant makes a master key as another program would, with one attribute of its own.
func (t *Token) Plant(id hsm.MasterID, kt hsm.KeyType, attribute uint, value bool) error {
	s, err := t.borrow(context.Background())
	if err != nil {
		return err
	}
	defer s.giveBack()
	template := generated(id, kt, true, time.Now())
	for i, a := range template {
		if a.Type == attribute {
			template[i] = attr(attribute, value)
		}
	}
	_, err = do(context.Background(), s, "planting a master key", func(r raw) (p11.ObjectHandle, error) {
		return r.c.GenerateKey(r.h, mech(keyGen(kt), nil), template)
	})
	return err
}

// Hang runs a call that does not come back until end is closed, in a module of its
// own, and then restarts the module. It returns both errors.
func Hang(end <-chan struct{}) (called, restarted error) {
	m := &module{path: "hanging", gen: 1}
	_, called = call(context.Background(), m, 1, 10*time.Millisecond, func(*p11.Ctx) (int, error) {
		<-end
		return 0, errors.New("came back")
	})
	return called, m.restart(1)
}
