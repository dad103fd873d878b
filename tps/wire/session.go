package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/auth"
)

// Session is one operation's conversation with a client, as the server's
// operations see it: the card ([Session.Transmit] makes it an apdu.Card), the
// person ([Session.Login], [Session.NewPIN]) and a progress bar.
//
// Every method waits for the client's answer within the Config's times. Once a
// method returned an ErrClientGone all do: the operation cannot go on. A Session
// lives until run returns; it serialises its callers.
type Session struct {
	begin BeginOp
	peer  string
	cfg   Config
	send  func(frame []byte) error // clears it
	inbox *inbox

	mu      sync.Mutex
	err     error // set once: the conversation is over
	waiting bool  // a request has no answer yet
	percent int
}

// Begin is what the client asked for.
func (s *Session) Begin() BeginOp { return s.begin }

// RemoteAddr is the client's network address, host:port.
func (s *Session) RemoteAddr() string { return s.peer }

// Transmit carries one command APDU to the client's card. Cancellation acts
// between APDUs: once sent, the answer is awaited whatever ctx does, for at most
// Config.CardTimeout. The client resolves 61xx; 6Cxx is an answer (§13). An APDU
// longer than about 1300 bytes does not fit the clients' buffers and is refused
// (§1.5). An error never means that the card did not act.
func (s *Session) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := s.mayTransmit(cmd); err != nil {
		return nil, err
	}
	m, err := s.exchange(ctx, TokenPDURequest{APDU: cmd}, TypeTokenPDUResponse)
	if err != nil {
		return nil, fmt.Errorf("sending APDU to the client: %w", err)
	}
	answer := m.(TokenPDUResponse).APDU
	if len(answer) < 2 {
		return nil, fmt.Errorf("sending APDU to the client: %w", s.fail(fmt.Errorf("%w: response APDU of %d bytes", ErrProtocol, len(answer))))
	}
	return answer, nil
}

// Login asks the person to fill in a form: all of it where the client wants
// extended login, else user name and password. The answers stand under the
// form's field IDs; a client may answer to UID as screen_name and to PASSWORD as
// password (§7, §15.8). A field that was not answered is absent. The caller wipes
// the answers. It returns early when ctx is done.
func (s *Session) Login(ctx context.Context, form auth.Form) (auth.Answers, error) {
	var (
		m   Message
		err error
	)
	if s.begin.Extensions.IsTrue(ExtExtendedLogin) {
		m, err = s.exchange(ctx, ExtendedLoginRequest{Form: form}, TypeExtendedLoginResponse)
	} else {
		m, err = s.exchange(ctx, LoginRequest{Invalid: form.Invalid, Blocked: form.Blocked}, TypeLoginResponse)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the login: %w", err)
	}
	given := answersOf(m)
	answers := make(auth.Answers, len(form.Fields))
	for _, f := range form.Fields {
		for _, name := range []string{f.ID, alias(f.ID)} {
			if i := lastIndex(given, name); i >= 0 {
				answers[f.ID] = given[i].Value
				given = slices.Delete(given, i, i+1)
				break
			}
		}
	}
	for _, a := range given {
		a.Value.Wipe()
	}
	return answers, nil
}

func answersOf(m Message) []Answer {
	switch m := m.(type) {
	case LoginResponse:
		return []Answer{{"screen_name", m.ScreenName}, {"password", m.Password}}
	case ExtendedLoginResponse:
		return m.Answers
	}
	return nil
}

// alias is the other name of a login field, "" if it has only one.
func alias(id string) string {
	switch id {
	case "UID":
		return "screen_name"
	case "PASSWORD":
		return "password"
	}
	return ""
}

func lastIndex(as []Answer, id string) int {
	if id == "" {
		return -1
	}
	for i := len(as) - 1; i >= 0; i-- {
		if as[i].ID == id {
			return i
		}
	}
	return -1
}

// NewPIN asks the person for a new PIN of min to max bytes. The limits are shown,
// not enforced: clients ignore them (§13), so the caller checks. A PIN that no
// card takes is ErrPIN, and may be asked for again. The caller wipes the PIN. It
// returns early when ctx is done.
func (s *Session) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	if s.DryRun() {
		return secret.PIN{}, fmt.Errorf("asking for a new PIN: %w", ErrDryRun)
	}
	m, err := s.exchange(ctx, NewPINRequest{Min: min, Max: max}, TypeNewPINResponse)
	if err != nil {
		return secret.PIN{}, fmt.Errorf("asking for a new PIN: %w", err)
	}
	pin, err := secret.NewPIN(m.(NewPINResponse).PIN.Bytes())
	if err != nil {
		return secret.PIN{}, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	return pin, nil
}

// Progress tells the client how far the operation is, if it asked for that
// (§8); else it does nothing. Values outside 0 to 100 are clipped and a value
// never falls below an earlier one (§15.12).
func (s *Session) Progress(ctx context.Context, percent int, task string) error {
	if !s.begin.Extensions.IsTrue(ExtStatusUpdate) {
		return nil
	}
	percent = s.clip(percent)
	if _, err := s.exchange(ctx, StatusUpdateRequest{Percent: percent, Task: task}, TypeStatusUpdateResponse); err != nil {
		return fmt.Errorf("reporting progress: %w", err)
	}
	return nil
}

// clip keeps a percentage within 0 to 100 and above the earlier ones.
func (s *Session) clip(percent int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.percent = max(s.percent, min(percent, 100))
	return s.percent
}

// exchange sends a request and waits for the answer of type want: one request at
// a time, one answer each (§1.4).
func (s *Session) exchange(ctx context.Context, req Message, want Type) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if m, err := s.inbox.poll(); err != nil {
		return nil, s.failLocked(err)
	} else if m != nil {
		return nil, s.failLocked(fmt.Errorf("%w: unasked %v", ErrProtocol, m.Type()))
	}
	if ctx.Err() != nil {
		return nil, cancelled(ctx)
	}
	frame, err := encodeRequest(req)
	if err != nil {
		return nil, err // nothing was sent: the conversation can go on
	}
	s.waiting = true
	if err := s.send(frame); err != nil {
		return nil, s.failLocked(err)
	}
	m, err := s.await(ctx, want)
	if err != nil {
		return nil, s.failLocked(err)
	}
	s.waiting = false
	if m.Type() != want {
		return nil, s.failLocked(fmt.Errorf("%w: %v where %v was due", ErrProtocol, m.Type(), want))
	}
	return m, nil
}

// await waits for a message: for a person until ctx is done, for a card as long
// as the card may take.
func (s *Session) await(ctx context.Context, want Type) (Message, error) {
	limit, stop := s.cfg.CardTimeout, (<-chan struct{})(nil)
	switch want {
	case TypeLoginResponse, TypeExtendedLoginResponse, TypeNewPINResponse:
		limit, stop = s.cfg.PersonTimeout, ctx.Done()
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case m := <-s.inbox.messages:
		return m, nil
	case <-s.inbox.done:
		return s.inbox.poll() // perhaps it answered, then left
	case <-timer.C:
		return nil, fmt.Errorf("no %v within %v", want, limit)
	case <-stop:
		return nil, cancelled(ctx)
	}
}

func (s *Session) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failLocked(err)
}

// failLocked ends the conversation: what was asked has no answer, and another
// question would be a second one outstanding.
func (s *Session) failLocked(err error) error {
	var c *cancelError
	switch {
	case s.err != nil:
	case errors.As(err, &c):
		s.err = err // our own wish, not the client's fault
	default:
		s.err = fmt.Errorf("%w: %w", ErrClientGone, err)
	}
	return s.err
}

// cancelError is a context that ended: errors.Is finds context.Canceled or
// DeadlineExceeded, and the cause.
type cancelError struct{ err, cause error }

func cancelled(ctx context.Context) error { return &cancelError{ctx.Err(), context.Cause(ctx)} }

func (e *cancelError) Error() string   { return e.cause.Error() }
func (e *cancelError) Unwrap() []error { return []error{e.err, e.cause} }
