package apdu

import (
	"context"
	"fmt"
)

// LongData says what a [Conn] does with a command of more than 255 data bytes.
type LongData uint8

// Ways to send long data.
const (
	ExtendedLength  LongData = iota // extended Lc and Le fields (ISO 7816-4 §5.2)
	CommandChaining                 // several short commands, CLA bit 10 (ISO 7816-4 §5.3.3)
)

// Case4 says what a [Conn] does with the Le field of a command that has data.
type Case4 uint8

// Treatments of a case 4 command.
const (
	KeepLe  Case4 = iota // as T=1 and every PC/SC service of today want it
	StripLe              // T=0 TPDU: no Le, the card offers its answer with 61xx
)

// ConnConfig configures a [Conn]. The zero value suits every card behind a
// PC/SC reader that knows extended length.
type ConnConfig struct {
	LongData LongData
	Case4    Case4
}

// Limits of one command's answer.
const (
	maxAnswer = MaxExtendedNe // data bytes of a whole answer
	maxRounds = 1024          // GET RESPONSE exchanges of one answer
)

// Conn runs commands on a [Card]. It resolves 61xx with GET RESPONSE and repeats
// a command answered 6Cxx with the length the card named, except a command that
// carries secure messaging: the card has consumed its MAC, so 6Cxx is the answer.
// An answer is at most 65536 bytes long.
//
// Cancellation acts between APDUs. A Conn serialises its callers; a list runs
// without another command in between. It does not close the card.
type Conn struct {
	card Card
	cfg  ConnConfig
	busy chan struct{} // holds one token while a caller is at work
}

var (
	_ Doer    = (*Conn)(nil)
	_ Batcher = (*Conn)(nil)
)

// NewConn returns a Conn on card, with the default configuration if none is
// given. It sends nothing.
func NewConn(card Card, cfg ...ConnConfig) *Conn {
	c := &Conn{card: card, busy: make(chan struct{}, 1)}
	for _, v := range cfg {
		c.cfg = v
	}
	return c
}

// ATR is the card's answer to reset, nil where the card tells none.
func (c *Conn) ATR() ATR {
	if a, ok := c.card.(interface{ ATR() ATR }); ok {
		return a.ATR()
	}
	return nil
}

// Reset resets the card: selections, channels and logins are gone. It returns
// [ErrUnsupported] where the card cannot be reset from here.
func (c *Conn) Reset(ctx context.Context) error {
	r, ok := c.card.(interface{ Reset(context.Context) error })
	if !ok {
		return fmt.Errorf("resetting card: %w", ErrUnsupported)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	return r.Reset(ctx)
}

// Do implements [Doer].
func (c *Conn) Do(ctx context.Context, cmd Command) (Response, error) {
	if err := c.lock(ctx); err != nil {
		return Response{}, err
	}
	defer c.unlock()
	return c.do(ctx, cmd)
}

// DoAll implements [Batcher]. A card that is a [FrameTransmitter] gets the list
// as a whole; 6Cxx is then repeated only where it ended the list, and is the
// answer of an entry with [Anyway]. With an error come the answers received
// before it.
func (c *Conn) DoAll(ctx context.Context, es []Entry) ([]Response, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	ft, ok := c.card.(FrameTransmitter)
	if !ok || c.anyChained(es) {
		return oneByOne(ctx, doerFunc(c.do), es)
	}
	var answers []Response
	for len(answers) < len(es) {
		part, err := c.transmitAll(ctx, ft, es[len(answers):])
		answers = append(answers, part...)
		if err != nil {
			return answers, err
		}
		if last := len(answers) - 1; stops(es[last], answers[last]) {
			return answers, nil
		}
	}
	return answers, nil
}

// transmitAll runs a list until it ends or stops; an answer that can be settled
// is settled, and the caller goes on behind it.
func (c *Conn) transmitAll(ctx context.Context, ft FrameTransmitter, es []Entry) ([]Response, error) {
	frames := make([]Frame, len(es))
	for i, e := range es {
		b, err := c.encode(e.Command)
		if err != nil {
			return nil, err
		}
		frames[i] = Frame{Cmd: b, Anyway: e.Mode&Anyway != 0}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := ft.TransmitAll(ctx, frames)
	answers, perr := parseAnswers(es, raw)
	if err == nil {
		err = perr
	}
	if err != nil {
		return answers, err
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("list of %d commands: no answer", len(es))
	}
	last := len(answers) - 1
	if !stops(es[last], answers[last]) {
		if len(answers) < len(es) {
			return answers, fmt.Errorf("list of %d commands: ended after %d without a reason", len(es), len(answers))
		}
		return answers, nil
	}
	answers[last], err = c.settle(ctx, es[last].Command, answers[last])
	if err != nil {
		return answers[:last], err
	}
	return answers, nil
}

// parseAnswers decodes the answers to es and refuses those that the card's side
// should not have fetched.
func parseAnswers(es []Entry, raw [][]byte) ([]Response, error) {
	if len(raw) > len(es) {
		return nil, fmt.Errorf("list of %d commands: %d answers", len(es), len(raw))
	}
	answers := make([]Response, 0, len(raw))
	for i, b := range raw {
		if i > 0 && stops(es[i-1], answers[i-1]) {
			return answers, fmt.Errorf("list of %d commands: answer %d after the list had ended", len(es), i+1)
		}
		r, err := parseBounded(b)
		if err != nil {
			return answers, err
		}
		answers = append(answers, r)
	}
	return answers, nil
}

func stops(e Entry, r Response) bool { return r.SW != SWSuccess && e.Mode&Anyway == 0 }

func (c *Conn) anyChained(es []Entry) bool {
	for _, e := range es {
		if c.chained(e.Command) {
			return true
		}
	}
	return false
}

func (c *Conn) chained(cmd Command) bool {
	return c.cfg.LongData == CommandChaining && len(cmd.Data) > MaxShortData
}

// do runs one command, in parts where it must be chained.
func (c *Conn) do(ctx context.Context, cmd Command) (Response, error) {
	if !c.chained(cmd) {
		return c.exchange(ctx, cmd)
	}
	parts, err := Chain(cmd)
	if err != nil {
		return Response{}, err
	}
	for _, p := range parts[:len(parts)-1] {
		r, err := c.exchange(ctx, p)
		if err != nil || r.SW != SWSuccess {
			return r, err
		}
	}
	return c.exchange(ctx, parts[len(parts)-1])
}

func (c *Conn) exchange(ctx context.Context, cmd Command) (Response, error) {
	r, err := c.transmit(ctx, cmd)
	if err != nil {
		return Response{}, err
	}
	return c.settle(ctx, cmd, r)
}

// settle turns a 61xx or 6Cxx answer into the final one.
func (c *Conn) settle(ctx context.Context, cmd Command, r Response) (Response, error) {
	if r.SW.SW1() == 0x6C && !cmd.Secured() {
		cmd.Ne = orMax(int(r.SW.SW2()), MaxShortNe)
		var err error
		if r, err = c.transmitLe(ctx, cmd); err != nil {
			return Response{}, err
		}
	}
	if r.SW.SW1() != 0x61 {
		return r, nil
	}
	return c.collect(ctx, cmd, r)
}

// collect fetches the rest of an answer that began with 61xx (ISO 7816-4 §11.8.1).
func (c *Conn) collect(ctx context.Context, cmd Command, r Response) (Response, error) {
	data := append([]byte(nil), r.Data...)
	get := Command{CLA: channelCLA(cmd.CLA), INS: 0xC0}
	for round := 0; r.SW.SW1() == 0x61; round++ {
		if round == maxRounds {
			return Response{}, fmt.Errorf("answer to %02X%02X%02X%02X: more than %d parts", cmd.CLA, cmd.INS, cmd.P1, cmd.P2, maxRounds)
		}
		get.Ne = orMax(int(r.SW.SW2()), MaxShortNe)
		var err error
		if r, err = c.transmit(ctx, get); err != nil {
			return Response{}, err
		}
		if r.SW.SW1() == 0x6C {
			get.Ne = orMax(int(r.SW.SW2()), MaxShortNe)
			if r, err = c.transmit(ctx, get); err != nil {
				return Response{}, err
			}
		}
		if len(data)+len(r.Data) > maxAnswer {
			return Response{}, fmt.Errorf("answer to %02X%02X%02X%02X: more than %d bytes", cmd.CLA, cmd.INS, cmd.P1, cmd.P2, maxAnswer)
		}
		data = append(data, r.Data...)
	}
	return Response{Data: data, SW: r.SW}, nil
}

func (c *Conn) transmit(ctx context.Context, cmd Command) (Response, error) {
	b, err := c.encode(cmd)
	if err != nil {
		return Response{}, err
	}
	return c.send(ctx, b)
}

// transmitLe sends cmd with its Le field whatever the configuration: the card
// has asked for it.
func (c *Conn) transmitLe(ctx context.Context, cmd Command) (Response, error) {
	b, err := cmd.Encode()
	if err != nil {
		return Response{}, err
	}
	return c.send(ctx, b)
}

func (c *Conn) send(ctx context.Context, b []byte) (Response, error) {
	if err := ctx.Err(); err != nil {
		return Response{}, err
	}
	out, err := c.card.Transmit(ctx, b)
	if err != nil {
		return Response{}, err
	}
	return parseBounded(out)
}

func (c *Conn) encode(cmd Command) ([]byte, error) {
	switch {
	case c.cfg.LongData == CommandChaining && cmd.Ne > MaxShortNe:
		cmd.Ne = MaxShortNe // the rest comes with 61xx
	case c.cfg.Case4 == StripLe && len(cmd.Data) > 0 && !cmd.Extended():
		cmd.Ne = 0
	}
	return cmd.Encode()
}

func parseBounded(b []byte) (Response, error) {
	if len(b) > maxAnswer+2 {
		return Response{}, fmt.Errorf("response APDU of %d bytes", len(b))
	}
	return ParseResponse(b)
}

func (c *Conn) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Conn) unlock() { <-c.busy }
