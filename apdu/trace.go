package apdu

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Trace returns a Card that writes a debug line for every exchange on card. It
// denies by default: header, lengths, status word and duration always; data only
// of plain SELECT, GET DATA, GET STATUS and INITIALIZE UPDATE. Where the log does
// not take debug lines, card itself comes back. The optional abilities of card
// remain.
func Trace(card Card, log *slog.Logger) Card {
	if log == nil || !log.Enabled(context.Background(), slog.LevelDebug) {
		return card
	}
	t := &traceCard{card: card, log: log}
	if ft, ok := card.(FrameTransmitter); ok {
		return &traceFrames{traceCard: t, frames: ft}
	}
	return t
}

// TraceDoer returns a Doer that writes a debug line for every command of d:
// header, lengths and status word, never data, since d may stand on the plain
// side of a secure channel.
func TraceDoer(d Doer, log *slog.Logger) Doer {
	if log == nil || !log.Enabled(context.Background(), slog.LevelDebug) {
		return d
	}
	return &traceDoer{doer: d, log: log}
}

type traceCard struct {
	card Card
	log  *slog.Logger
}

func (t *traceCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	start := time.Now()
	answer, err := t.card.Transmit(ctx, cmd)
	attrs := append(traceFrame(cmd, answer), slog.Duration("dur", time.Since(start)))
	traceLine(ctx, t.log, attrs, err)
	return answer, err
}

// ATR passes the card's answer to reset on, nil where it tells none.
func (t *traceCard) ATR() ATR {
	if a, ok := t.card.(interface{ ATR() ATR }); ok {
		return a.ATR()
	}
	return nil
}

func (t *traceCard) Reset(ctx context.Context) error {
	r, ok := t.card.(interface{ Reset(context.Context) error })
	if !ok {
		return fmt.Errorf("resetting card: %w", ErrUnsupported)
	}
	err := r.Reset(ctx)
	traceLine(ctx, t.log, []slog.Attr{slog.String("apdu", "reset")}, err)
	return err
}

// traceFrames is a traceCard on a card that takes lists.
type traceFrames struct {
	*traceCard
	frames FrameTransmitter
}

func (t *traceFrames) TransmitAll(ctx context.Context, frames []Frame) ([][]byte, error) {
	answers, err := t.frames.TransmitAll(ctx, frames)
	for i, a := range answers {
		if i < len(frames) {
			traceLine(ctx, t.log, traceFrame(frames[i].Cmd, a), nil)
		}
	}
	if err != nil {
		traceLine(ctx, t.log, []slog.Attr{slog.String("apdu", "list"), slog.Int("ran", len(answers))}, err)
	}
	return answers, err
}

type traceDoer struct {
	doer Doer
	log  *slog.Logger
}

func (t *traceDoer) Do(ctx context.Context, cmd Command) (Response, error) {
	r, err := t.doer.Do(ctx, cmd)
	traceLine(ctx, t.log, traceCommand(cmd, r, err), err)
	return r, err
}

func (t *traceDoer) DoAll(ctx context.Context, es []Entry) ([]Response, error) {
	rs, err := DoAll(ctx, t.doer, es)
	for i, r := range rs {
		if i < len(es) {
			traceLine(ctx, t.log, traceCommand(es[i].Command, r, nil), nil)
		}
	}
	if err != nil {
		traceLine(ctx, t.log, []slog.Attr{slog.String("apdu", "list"), slog.Int("ran", len(rs))}, err)
	}
	return rs, err
}

func traceLine(ctx context.Context, log *slog.Logger, attrs []slog.Attr, err error) {
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	log.LogAttrs(ctx, slog.LevelDebug, "exchange", attrs...)
}

func traceCommand(cmd Command, r Response, err error) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("apdu", upperHex([]byte{cmd.CLA, cmd.INS, cmd.P1, cmd.P2})),
		slog.Int("lc", len(cmd.Data)),
	}
	if err != nil {
		return attrs
	}
	return append(attrs, slog.Int("len", len(r.Data)), slog.String("sw", r.SW.String()))
}

// traceFrame is one exchange in bytes. What does not parse as a command is shown
// by its length alone.
func traceFrame(cmd, answer []byte) []slog.Attr {
	c, err := ParseCommand(cmd)
	if err != nil {
		return []slog.Attr{slog.String("apdu", "malformed"), slog.Int("lc", len(cmd))}
	}
	r, rerr := ParseResponse(answer)
	attrs := traceCommand(c, r, rerr)
	if !mayShow(c) {
		return attrs
	}
	if len(c.Data) > 0 {
		attrs = append(attrs, slog.String("data", upperHex(c.Data)))
	}
	if len(r.Data) > 0 {
		attrs = append(attrs, slog.String("answer", upperHex(r.Data)))
	}
	return attrs
}

// shown are class (channel removed) and instruction of the commands whose data may
// be traced. Anything else, applet commands and wrapped ones above all, is not.
var shown = map[[2]byte]bool{
	{0x00, 0xA4}: true, // SELECT
	{0x00, 0xCA}: true, // GET DATA
	{0x80, 0xCA}: true,
	{0x80, 0xF2}: true, // GET STATUS
	{0x80, 0x50}: true, // INITIALIZE UPDATE
}

func mayShow(c Command) bool {
	cla := c.CLA &^ 0x03
	if c.CLA&claFurther != 0 {
		cla = c.CLA &^ (claFurther | 0x0F)
	}
	return !c.Secured() && shown[[2]byte{cla, c.INS}]
}
