package pcsc

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Codes for tests.
const (
	CodeNoService     = codeNoService
	CodeSharing       = codeSharing
	CodeReset         = codeReset
	CodeRemoved       = codeRemoved
	CodeNoCard        = codeNoCard
	CodeNotTransacted = codeNotTransacted
	CodeUnresponsive  = codeUnresponsive
	CodeInvalidHandle = codeInvalidHandle
	CommandTimeout    = commandTimeout
	T0                = protocolT0
	T1                = protocolT1
)

// Code is a code.
type Code = code

// Frame is frame.
var Frame = frame

// Fake is a PC/SC service in memory.
type Fake struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	down     bool
	readers  []*fakeReader
	Sessions int      // open contexts
	Sent     [][]byte // what the cards were sent
	Resets   int      // by reconnect and disconnect

	Protocol protocol
	Answer   func(cmd []byte) ([]byte, error) // nil = 9000
	Connects []error                          // what the next connects fail with
	Status   error                            // what status reports from now on
}

type fakeReader struct {
	name  string
	event flags
	atr   []byte
}

// NewFake returns a service without readers whose cards speak T=1.
func NewFake() *Fake { return &Fake{changed: make(chan struct{}), Protocol: protocolT1} }

// Open opens a Service on the fake.
func (f *Fake) Open(ctx context.Context) (*Service, error) { return open(ctx, f) }

// Do changes the fake and wakes whoever waits for a change.
func (f *Fake) Do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Down stops the service, or starts it.
func (f *Fake) Down(down bool) { f.Do(func() { f.down = down }) }

// AddReader plugs a reader in.
func (f *Fake) AddReader(name string) {
	f.Do(func() { f.readers = append(f.readers, &fakeReader{name: name, event: flagEmpty}) })
}

// RemoveReader unplugs a reader.
func (f *Fake) RemoveReader(name string) {
	f.Do(func() { f.readers = slices.DeleteFunc(f.readers, func(r *fakeReader) bool { return r.name == name }) })
}

// Insert puts a card in a reader; no ATR makes it mute.
func (f *Fake) Insert(name string, atr []byte) { f.set(name, flagPresent, atr) }

// Remove takes the card out.
func (f *Fake) Remove(name string) { f.set(name, flagEmpty, nil) }

// Mark sets a further flag, as exclusive use does, without an insertion.
func (f *Fake) MarkExclusive(name string) {
	f.Do(func() { f.find(name).event |= flagExclusive })
}

func (f *Fake) set(name string, state flags, atr []byte) {
	f.Do(func() {
		r := f.find(name)
		if state == flagPresent && atr == nil {
			state |= flagMute
		}
		r.event = flags(r.event.count()+1)<<16 | state
		r.atr = atr
	})
}

func (f *Fake) find(name string) *fakeReader {
	for _, r := range f.readers {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (f *Fake) establish() (session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return nil, codeNoService
	}
	f.Sessions++
	return &fakeSession{f: f, cancelled: make(chan struct{}, 1)}, nil
}

type fakeSession struct {
	f         *Fake
	cancelled chan struct{}
	released  bool
}

func (s *fakeSession) listReaders() ([]string, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.f.down {
		return nil, codeServiceStopped
	}
	if len(s.f.readers) == 0 {
		return nil, codeNoReaders
	}
	var out []string
	for _, r := range s.f.readers {
		out = append(out, r.name)
	}
	return out, nil
}

func (s *fakeSession) statusChange(slots []slot, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		s.f.mu.Lock()
		wait := s.f.changed
		done, err := s.look(slots)
		s.f.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-timer.C:
			return codeTimeout
		case <-s.cancelled:
			return codeCancelled
		}
	}
}

func (s *fakeSession) look(slots []slot) (done bool, err error) {
	if s.f.down {
		return false, codeServiceStopped
	}
	for i, sl := range slots {
		if sl.name == notification {
			if int(sl.current.count()) != len(s.f.readers) {
				done = true
			}
			continue
		}
		r := s.f.find(sl.name)
		if r == nil {
			return false, codeUnknownReader
		}
		if r.event != sl.current {
			done = true
		}
		slots[i].event, slots[i].atr = r.event|flagChanged, r.atr
	}
	return done, nil
}

// cancel ends a wait, or is lost when there is none.
func (s *fakeSession) cancel() error {
	select {
	case s.cancelled <- struct{}{}:
	default:
	}
	return nil
}

func (s *fakeSession) release() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.released {
		return errors.New("released twice")
	}
	s.released = true
	s.f.Sessions--
	return nil
}

func (s *fakeSession) connect(reader string) (handle, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if len(s.f.Connects) > 0 {
		err := s.f.Connects[0]
		s.f.Connects = s.f.Connects[1:]
		if err != nil {
			return nil, err
		}
	}
	r := s.f.find(reader)
	switch {
	case r == nil:
		return nil, codeUnknownReader
	case r.event&flagMute != 0:
		return nil, codeUnresponsive
	case r.event&flagPresent == 0:
		return nil, codeNoCard
	}
	return &fakeHandle{f: s.f, r: r, inserted: r.event.count()}, nil
}

type fakeHandle struct {
	f        *Fake
	r        *fakeReader
	inserted uint32
}

func (h *fakeHandle) protocol() protocol { return h.f.Protocol }

func (h *fakeHandle) status() ([]byte, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if h.f.Status != nil {
		return nil, h.f.Status
	}
	if h.r.event.count() != h.inserted {
		return nil, codeRemoved
	}
	return h.r.atr, nil
}

func (h *fakeHandle) transmit(cmd []byte) ([]byte, error) {
	h.f.mu.Lock()
	h.f.Sent = append(h.f.Sent, slices.Clone(cmd))
	answer, gone := h.f.Answer, h.r.event.count() != h.inserted
	h.f.mu.Unlock()
	switch {
	case gone:
		return nil, codeRemoved
	case answer != nil:
		return answer(cmd)
	}
	return []byte{0x90, 0x00}, nil
}

func (h *fakeHandle) reconnect() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	if !h.r.event.hasCard() {
		return codeNoCard
	}
	h.f.Resets++
	h.inserted = h.r.event.count()
	return nil
}

func (h *fakeHandle) disconnect() error {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.Resets++
	if h.r.event.count() != h.inserted {
		return codeRemoved
	}
	return nil
}
