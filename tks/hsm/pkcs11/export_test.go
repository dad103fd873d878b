//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"log/slog"
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

// HangTogether is Hang for a call among others of a work, which closes at once. It
// returns the error of the work, and what the goroutine in it is told later.
func HangTogether(end <-chan struct{}) (later <-chan error, called error) {
	m := &module{path: "hanging", gen: 1}
	t := &Token{mod: m, cfg: Config{OpTimeout: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}, workers: make(chan struct{}, 1)}
	t.workers <- struct{}{}
	w := &work{s: &session{t: t, c: &conn{gen: 1}}}
	told := make(chan error, 2)
	called = w.Together(context.Background(), func() error {
		_, err := do(context.Background(), w.s, "waiting", func(raw) (int, error) {
			<-end
			return 0, nil
		})
		told <- err
		_, err = do(context.Background(), w.s, "going on", func(raw) (int, error) { return 0, nil })
		told <- err
		return err
	})
	w.Close()
	t.workers <- struct{}{} // the place is free for another
	return told, called
}
