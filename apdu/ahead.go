package apdu

import (
	"bytes"
	"context"
	"fmt"
)

// Together is how many commands of a list d carries in one go, over one network
// round trip: 1 where each is sent for itself.
func Together(d Doer) int {
	if t, ok := d.(interface{ Together() int }); ok {
		return max(t.Together(), 1)
	}
	return 1
}

// anyLength is what a FrameTransmitter takes that names no limit.
const anyLength = 256

// Together is how many commands the card's side takes in one go: MaxFrames of a
// card that has such a method.
func (c *Conn) Together() int {
	if _, ok := c.card.(FrameTransmitter); !ok {
		return 1
	}
	if m, ok := c.card.(interface{ MaxFrames() int }); ok {
		return m.MaxFrames()
	}
	return anyLength
}

// ReadAhead runs a list of commands of which the caller knows that it is about to
// ask for them, and returns a Doer that answers them without asking again. Only
// commands without effect belong into es, and SELECT at its beginning.
//
// Answers are given in the order of es. Another command, or one behind the list's
// end, goes to d and drops the answers that are left. Where d carries one command
// at a time nothing is sent ahead, and d itself is returned.
func ReadAhead(ctx context.Context, d Doer, es []Entry) (Doer, error) {
	if Together(d) == 1 {
		return d, nil
	}
	rs, err := DoAll(ctx, d, es)
	if err != nil {
		return nil, err
	}
	return &ahead{d: d, es: es[:min(len(es), len(rs))], rs: rs}, nil
}

// ahead gives answers that are there already. It serves one goroutine.
type ahead struct {
	d  Doer
	es []Entry
	rs []Response
}

var (
	_ Doer    = (*ahead)(nil)
	_ Batcher = (*ahead)(nil)
)

// Do implements Doer.
func (a *ahead) Do(ctx context.Context, cmd Command) (Response, error) {
	if r, ok := a.next(cmd); ok {
		return r, nil
	}
	return a.d.Do(ctx, cmd)
}

// DoAll implements Batcher.
func (a *ahead) DoAll(ctx context.Context, es []Entry) ([]Response, error) {
	if len(es) == 1 {
		if r, ok := a.next(es[0].Command); ok {
			return []Response{r}, nil
		}
	}
	a.es = nil
	return DoAll(ctx, a.d, es)
}

// next takes the next answer if it is that of cmd, and drops all if not.
func (a *ahead) next(cmd Command) (Response, bool) {
	if len(a.es) == 0 || !same(a.es[0].Command, cmd) {
		a.es = nil
		return Response{}, false
	}
	r := a.rs[0]
	a.es, a.rs = a.es[1:], a.rs[1:]
	return r, true
}

func same(a, b Command) bool {
	return a.CLA == b.CLA && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && a.Ne == b.Ne && bytes.Equal(a.Data, b.Data)
}

// Behind returns a Doer whose first command or list travels with the SELECT sel
// before it, in one list. A SELECT that is refused is a [*StatusError]; a locked
// card (6283) has been selected. Where d carries one command at a time it is sent
// before.
func Behind(d Doer, sel Command) Doer { return &behind{d: d, first: &sel} }

// behind holds a command back. It serves one goroutine.
type behind struct {
	d     Doer
	first *Command
}

var (
	_ Doer    = (*behind)(nil)
	_ Batcher = (*behind)(nil)
)

// Together is that of the Doer behind it.
func (b *behind) Together() int { return Together(b.d) }

// Do implements Doer.
func (b *behind) Do(ctx context.Context, cmd Command) (Response, error) {
	if b.first == nil {
		return b.d.Do(ctx, cmd)
	}
	rs, err := b.DoAll(ctx, []Entry{{Command: cmd}})
	if err == nil && len(rs) != 1 {
		err = fmt.Errorf("%d answers to one command", len(rs))
	}
	if err != nil {
		return Response{}, err
	}
	return rs[0], nil
}

// DoAll implements Batcher.
func (b *behind) DoAll(ctx context.Context, es []Entry) ([]Response, error) {
	if b.first == nil || len(es) == 0 {
		return DoAll(ctx, b.d, es)
	}
	first := *b.first
	b.first = nil
	rs, err := DoAll(ctx, b.d, append([]Entry{{Command: first}}, es...))
	switch {
	case len(rs) == 0:
		return nil, err
	case err == nil && len(rs) == 1 && rs[0].SW == SWCardLocked:
		return DoAll(ctx, b.d, es)
	case err == nil && rs[0].SW != SWSuccess:
		return nil, rs[0].Check(first)
	}
	return rs[1:], err
}
