// Package pcsc reaches the smart cards in the readers of this machine through
// PC/SC: pcscd on Linux, CryptoTokenKit on macOS, the Smart Card service on Windows.
//
// Most callers use [Open] once, [Service.Watch] to follow insertions, and
// [Service.Connect] to own one card for one operation. The [Conn] is an
// [apdu.Card]: it carries one APDU at a time, never repeats one, and knows when
// the card has left. 61xx, 6Cxx and chaining are the work of apdu.Conn.
//
// Linux and macOS need a build with cgo. In a build without, every call fails
// with an error that names the build that has PC/SC.
package pcsc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"inkan/apdu"
)

// Service is the PC/SC service of this machine. It is safe for concurrent use.
type Service struct {
	sys system

	mu      sync.Mutex // one call at a time on a PC/SC context
	session session    // nil until needed, and after the service was lost
	closed  bool
}

// Reader is one card slot.
type Reader struct {
	Name  string
	State ReaderState
	ATR   apdu.ATR // of the card, where there is one
}

// ReaderState says what is in a reader.
type ReaderState int

// Reader states.
const (
	Unavailable ReaderState = iota // cannot be told
	Empty                          // no card
	Present                        // a card
	InUse                          // a card that another program uses for itself alone
	Mute                           // a card that does not answer, such as one put in the wrong way round
)

// HasCard reports whether there is a card, usable or not.
func (s ReaderState) HasCard() bool { return s == Present || s == InUse || s == Mute }

// String names the state.
func (s ReaderState) String() string {
	switch s {
	case Empty:
		return "empty"
	case Present:
		return "card present"
	case InUse:
		return "card in use"
	case Mute:
		return "card does not answer"
	}
	return "unavailable"
}

// Open makes contact with the service. Its error is ErrNoService if there is none.
func Open(ctx context.Context) (*Service, error) { return open(ctx, newSystem()) }

func open(ctx context.Context, sys system) (*Service, error) {
	s := &Service{sys: sys}
	err := s.with(ctx, func(session) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("opening PC/SC: %w", err)
	}
	return s, nil
}

// Close releases the service. Connections and watches made from it live on.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.session == nil {
		return nil
	}
	err := s.session.release()
	s.session = nil
	return explain("closing PC/SC", err)
}

// Readers lists the readers and what is in them; none is no error.
func (s *Service) Readers(ctx context.Context) ([]Reader, error) {
	var out []Reader
	err := s.with(ctx, func(se session) (err error) {
		out, err = listReaders(se)
		return err
	})
	if err != nil {
		return nil, explain("listing the readers", err)
	}
	return out, nil
}

// with runs a call on the service's own context, which is made anew once if the
// service had been restarted in between.
func (s *Service) with(ctx context.Context, do func(session) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("service is closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.session != nil {
		err := do(s.session)
		if !isLost(err) {
			return err
		}
		_ = s.session.release() // of a service that is gone
		s.session = nil
	}
	se, err := s.sys.establish()
	if err != nil {
		return err
	}
	s.session = se
	return do(se)
}

// listReaders lists the readers and their states. Readers that vanish between
// the two questions make it ask again.
func listReaders(se session) ([]Reader, error) {
	for range 3 {
		names, err := readerNames(se)
		if err != nil || len(names) == 0 {
			return nil, err
		}
		states := make([]slot, len(names))
		for i, n := range names {
			states[i].name = n
		}
		err = se.statusChange(states, 0)
		if errors.Is(err, codeUnknownReader) {
			continue
		}
		if err != nil && !errors.Is(err, codeTimeout) {
			return nil, err
		}
		out := make([]Reader, len(states))
		for i, st := range states {
			out[i] = Reader{Name: st.name, State: st.event.state(), ATR: st.atr}
		}
		return out, nil
	}
	return nil, errors.New("the readers keep changing")
}

func readerNames(se session) ([]string, error) {
	names, err := se.listReaders()
	if errors.Is(err, codeNoReaders) {
		return nil, nil
	}
	return names, err
}
