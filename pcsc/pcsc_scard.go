//go:build cgo || windows

package pcsc

import (
	"crypto/rand"
	"errors"
	"runtime"
	"time"

	"github.com/ebfe/scard"
)

// newSystem is the machine's PC/SC service.
func newSystem() system { return realSystem{} }

type realSystem struct{}

func (realSystem) establish() (session, error) {
	ctx, err := scard.EstablishContext()
	if err != nil {
		return nil, coded(err)
	}
	return &realSession{ctx: ctx, tag: readerTag()}, nil
}

type realSession struct {
	ctx *scard.Context
	tag string
}

// readerTag is appended to the reader names of a session's status calls. The Unix
// half of the library keeps the C string of a name alive in a table by that name,
// so a second call for the same reader would free the string that a call which
// still waits is using. Behind a NUL the service does not see the tag.
func readerTag() string {
	if runtime.GOOS == "windows" {
		return ""
	}
	return "\x00" + rand.Text()
}

func (s *realSession) listReaders() ([]string, error) {
	for {
		names, err := s.ctx.ListReaders()
		if errors.Is(err, scard.ErrInsufficientBuffer) { // one was plugged in between the library's two calls
			continue
		}
		return names, coded(err)
	}
}

func (s *realSession) statusChange(slots []slot, timeout time.Duration) error {
	states := make([]scard.ReaderState, len(slots))
	for i, sl := range slots {
		states[i] = scard.ReaderState{Reader: sl.name + s.tag, CurrentState: scard.StateFlag(sl.current), Atr: sl.atr}
	}
	if err := s.ctx.GetStatusChange(states, timeout); err != nil {
		return coded(err)
	}
	for i := range slots {
		slots[i].event, slots[i].atr = flags(states[i].EventState), nil
		if slots[i].event.hasCard() {
			slots[i].atr = states[i].Atr
		}
	}
	return nil
}

func (s *realSession) cancel() error  { return coded(s.ctx.Cancel()) }
func (s *realSession) release() error { return coded(s.ctx.Release()) }

func (s *realSession) connect(reader string) (handle, error) {
	card, err := s.ctx.Connect(reader, scard.ShareExclusive, scard.ProtocolAny)
	if err != nil {
		return nil, coded(err)
	}
	return realHandle{card}, nil
}

type realHandle struct{ card *scard.Card }

func (h realHandle) protocol() protocol { return protocol(h.card.ActiveProtocol()) }

func (h realHandle) status() ([]byte, error) {
	st, err := h.card.Status()
	if err != nil {
		return nil, coded(err)
	}
	return st.Atr, nil
}

func (h realHandle) transmit(cmd []byte) ([]byte, error) {
	res, err := h.card.Transmit(cmd)
	return res, coded(err)
}

func (h realHandle) reconnect() error {
	return coded(h.card.Reconnect(scard.ShareExclusive, scard.ProtocolAny, scard.ResetCard))
}

func (h realHandle) disconnect() error { return coded(h.card.Disconnect(scard.ResetCard)) }

// coded makes a code of the library's error.
func coded(err error) error {
	var e scard.Error
	if errors.As(err, &e) {
		return code(e)
	}
	return err
}
