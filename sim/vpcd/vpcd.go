// Package vpcd puts a card into the machine's PC/SC service: it is the card's end
// of the protocol of vsmartcard's virtual reader driver, vpcd, so that every
// PC/SC program sees the card as if it were in a reader.
//
//	err := (&vpcd.Client{Addr: "127.0.0.1:35963", Card: card}).Run(ctx)
//
// One connection is one inserted card. The driver listens on one port per slot,
// 35963 and 35964 in a default installation, on all addresses and without
// authentication. Tested with vpcd 3.3 and pcscd 1.9.9; the driver's reversed
// mode, where the card listens, is not supported.
package vpcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"inkan/apdu"
)

// DefaultAddr is the first slot of a default installation of vpcd on this machine.
const DefaultAddr = "127.0.0.1:35963"

// Card is a card that can be plugged in. A card that also has Inserted() bool is
// out of the reader while that is false.
type Card interface {
	apdu.Card
	ATR() apdu.ATR
	Reset(context.Context) error
}

// Client is a card's connection to a slot of vpcd. Addr and Card are required.
type Client struct {
	Addr     string // host and port of the slot
	Card     Card
	Log      *slog.Logger  // nil = silence
	Powered  func()        // called when the reader first powers the card, once per insertion; may be nil
	Patience time.Duration // how long to try to connect; 0 = for ever
}

// ErrNoDriver means that nothing listened at the address for as long as
// Client.Patience.
var ErrNoDriver = errors.New("no vpcd driver: is pcscd running, with vsmartcard-vpcd installed?")

// Run serves the card until ctx ends (nil), the card fails with anything but
// apdu.ErrCardRemoved, or there is no driver within Patience.
func (c *Client) Run(ctx context.Context) error {
	for {
		if !c.awaitCard(ctx) {
			return nil
		}
		conn, err := c.connect(ctx)
		if err != nil {
			return endOf(ctx, err)
		}
		err = c.insert(ctx, conn)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errCard):
			return err
		}
		c.log().DebugContext(ctx, "card left the reader", "addr", c.Addr, "reason", err)
		if !pause(ctx, retryFirst) {
			return nil
		}
	}
}

// endOf is nil where the end of ctx is behind err.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Waiting times.
const (
	retryFirst   = 10 * time.Millisecond // between attempts to connect, doubled up to
	retryLast    = 320 * time.Millisecond
	presencePoll = 20 * time.Millisecond
)

// connect tries until somebody listens.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	start, wait := time.Now(), retryFirst
	for {
		conn, err := d.DialContext(ctx, "tcp", c.Addr)
		if err == nil {
			return conn, nil
		}
		if c.Patience > 0 && time.Since(start) > c.Patience {
			return nil, fmt.Errorf("connecting to %s: %w (%w)", c.Addr, ErrNoDriver, err)
		}
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
		wait = min(2*wait, retryLast)
	}
}

// insert serves one insertion: from the connection to its end.
func (c *Client) insert(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	go c.watch(ctx, cancel)
	c.log().DebugContext(ctx, "card inserted", "addr", c.Addr)
	s := session{Client: c, conn: conn}
	if err := s.power(ctx); err != nil { // a card that is swapped is not told: connecting is power-on
		return err
	}
	for {
		payload, err := readFrame(conn)
		if err != nil {
			return err
		}
		if err := s.serve(ctx, payload); err != nil {
			return err
		}
	}
}

// watch ends the insertion when the card is pulled.
func (c *Client) watch(ctx context.Context, end func()) {
	for c.inserted() {
		if !pause(ctx, presencePoll) {
			return
		}
	}
	end()
}

func (c *Client) awaitCard(ctx context.Context) bool {
	for !c.inserted() {
		if !pause(ctx, presencePoll) {
			return false
		}
	}
	return ctx.Err() == nil
}

func (c *Client) inserted() bool {
	p, ok := c.Card.(interface{ Inserted() bool })
	return !ok || p.Inserted()
}

func (c *Client) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Control codes: a payload of one byte.
const (
	powerOff = 0x00
	powerOn  = 0x01
	reset    = 0x02
	sendATR  = 0x04
)

// errCard marks a failure of the card itself.
var errCard = errors.New("card failed")

// session is one insertion.
type session struct {
	*Client
	conn net.Conn
	seen bool // powered by the reader before
}

// serve handles one frame. Unknown control codes are ignored, as nothing may be
// sent unasked.
func (s *session) serve(ctx context.Context, payload []byte) error {
	if len(payload) > 1 {
		return s.transmit(ctx, payload)
	}
	switch payload[0] {
	case sendATR:
		return writeFrame(s.conn, s.Card.ATR())
	case powerOff, reset:
		return s.power(ctx)
	case powerOn:
		if !s.seen && s.Powered != nil {
			s.Powered()
		}
		s.seen = true
	}
	return nil
}

// power takes the card's volatile state away.
func (s *session) power(ctx context.Context) error {
	err := s.Card.Reset(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, apdu.ErrCardRemoved) {
		return fmt.Errorf("%w: resetting: %w", errCard, err)
	}
	return err
}

func (s *session) transmit(ctx context.Context, cmd []byte) error {
	resp, err := s.run(ctx, cmd)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, apdu.ErrCardRemoved) {
			return fmt.Errorf("%w: %w", errCard, err)
		}
		return err
	}
	if len(resp) < 2 || len(resp) > maxPayload {
		resp = []byte{0x6F, 0x00}
	}
	return writeFrame(s.conn, resp)
}

// run keeps a programming error in the card from looking like a removal.
func (s *session) run(ctx context.Context, cmd []byte) (resp []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log().ErrorContext(ctx, "card panicked", "stack", string(debug.Stack()))
			resp, err = []byte{0x6F, 0x00}, nil
		}
	}()
	return s.Card.Transmit(ctx, cmd)
}
