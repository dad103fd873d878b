package pcsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"inkan/apdu"
)

// Conn is one card, owned by this program alone until Close. It implements
// [apdu.Card] with ATR and Reset. It serves one goroutine at a time; Close may be
// called from another.
//
// Cancellation of a context acts before a command is sent, never while it runs.
// After an error that leaves in doubt what the card has done or which card it is,
// every further command fails with that error, until Reset.
type Conn struct {
	reader  string
	session session

	mu     sync.Mutex
	handle handle
	atr    apdu.ATR
	broken error // why nothing more may be sent
	closed bool
	stuck  bool // a call never came back: session and handle belong to it
}

// Times that a Conn waits.
const (
	// shareWait is how long Connect waits for a program that has the card just now:
	// desktops look at every card that is inserted.
	shareWait  = 3 * time.Second
	shareRetry = 100 * time.Millisecond
	// commandTimeout bounds one command. Key generation on a card takes minutes.
	commandTimeout = 5 * time.Minute
	// removalWait is how long a failed exchange may take to show as a removal:
	// pcscd asks a reader without interrupt every 400 ms.
	removalWait  = time.Second
	removalRetry = 50 * time.Millisecond
)

// Connect takes the card in a reader for this program alone and powers it up.
// The reader's name may be shortened as [Find] allows. T=1 is used where the
// card offers it, else T=0.
func (s *Service) Connect(ctx context.Context, reader string) (*Conn, error) {
	readers, err := s.Readers(ctx)
	if err != nil {
		return nil, err
	}
	r, err := Find(readers, reader)
	if err != nil {
		return nil, explain("choosing a reader", err)
	}
	c, err := connect(ctx, s.sys, r.Name)
	if err != nil {
		return nil, fmt.Errorf("connecting to the card in %q: %w", r.Name, err)
	}
	return c, nil
}

func connect(ctx context.Context, sys system, reader string) (*Conn, error) {
	se, err := sys.establish() // of its own: a context that is busy with a card answers nothing else
	if err != nil {
		return nil, err
	}
	h, err := connectShared(ctx, se, reader)
	if err != nil {
		return nil, errors.Join(err, se.release())
	}
	c := &Conn{reader: reader, session: se, handle: h}
	if c.atr, err = h.status(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := h.protocol().check(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// connectShared waits a little for a program that has the card.
func connectShared(ctx context.Context, se session, reader string) (handle, error) {
	for deadline := time.Now().Add(shareWait); ; {
		h, err := se.connect(reader)
		if err == nil || !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			return h, err
		}
		if err := pause(ctx, shareRetry); err != nil {
			return nil, err
		}
	}
}

// Reader is the full name of the card's reader.
func (c *Conn) Reader() string { return c.reader }

// ATR is the card's answer to the last reset.
func (c *Conn) ATR() apdu.ATR {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.atr)
}

// Transmit implements [apdu.Card]. Commands of up to 65544 bytes and responses of
// up to 65538 bytes pass; over T=0 only short ones do.
func (c *Conn) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(ctx); err != nil {
		return nil, err
	}
	tpdu, err := frame(c.handle.protocol(), cmd)
	if err != nil {
		return nil, err
	}
	res, err := c.call(func() ([]byte, error) { return c.handle.transmit(tpdu) })
	if err == nil && len(res) < 2 { // what some drivers make of a card that left while it worked
		err = fmt.Errorf("response of %d bytes has no status word: %w", len(res), codeCommunication)
	}
	if err != nil {
		c.broken = fmt.Errorf("sending a command to the card: %w", c.whyFailed(ctx, err))
		return nil, c.broken
	}
	return res, nil
}

// Reset resets the card: nothing is selected or verified any more. It ends the
// state of error after which commands fail, except when the card has left or
// another one is in its place: that one needs a new Connect.
func (c *Conn) Reset(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(ctx); err != nil && (c.closed || c.stuck || ctx.Err() != nil || errors.Is(err, apdu.ErrCardRemoved)) {
		return err
	}
	atr, err := c.call(func() ([]byte, error) {
		if err := c.handle.reconnect(); err != nil {
			return nil, err
		}
		return c.handle.status()
	})
	if errors.Is(err, ErrNoCard) {
		err = codeRemoved
	}
	if err == nil && !bytes.Equal(atr, c.atr) {
		err = fmt.Errorf("another card is in the reader: %w", apdu.ErrCardRemoved)
	}
	c.broken = explain("resetting the card", err)
	return c.broken
}

// Close resets the card and lets go of it. Closing again, or after the card has
// left, is no error.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.stuck {
		c.closed = true
		return nil
	}
	c.closed = true
	err := c.handle.disconnect()
	if errors.Is(err, apdu.ErrCardRemoved) || errors.Is(err, ErrNoCard) || errors.Is(err, ErrReset) || isLost(err) {
		err = nil
	}
	if rel := c.session.release(); !isLost(rel) {
		err = errors.Join(err, rel)
	}
	return explain("letting go of the card", err)
}

func (c *Conn) usable(ctx context.Context) error {
	if c.closed {
		return errors.New("card connection is closed")
	}
	if c.broken != nil {
		return c.broken
	}
	return ctx.Err()
}

// call runs something on the handle and stops waiting when it takes too long;
// the connection is then lost, because nothing ends a PC/SC call.
func (c *Conn) call(do func() ([]byte, error)) ([]byte, error) {
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := do()
		done <- result{out, err}
	}()
	timer := time.NewTimer(commandTimeout)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.out, r.err
	case <-timer.C:
		c.stuck = true
		return nil, fmt.Errorf("reader %q has not answered for %s: unplug it and plug it in again", c.reader, commandTimeout)
	}
}

// whyFailed tells a removal from other failures of an exchange: the service
// notices that a card has left only a moment after the exchange with it failed.
func (c *Conn) whyFailed(ctx context.Context, err error) error {
	if errors.Is(err, ErrNoCard) {
		return codeRemoved
	}
	if !errors.Is(err, codeNotTransacted) && !errors.Is(err, codeCommunication) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalWait)
	defer cancel()
	for {
		_, status := c.handle.status()
		if errors.Is(status, apdu.ErrCardRemoved) {
			return status
		}
		if pause(ctx, removalRetry) != nil {
			return err
		}
	}
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
