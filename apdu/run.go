package apdu

import (
	"context"
	"fmt"
)

// Run runs one command and returns its data; a status other than 9000 comes back
// as a [*StatusError], with the data that came along.
func Run(ctx context.Context, d Doer, c Command) ([]byte, error) {
	r, err := d.Do(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("command %02X%02X%02X%02X: %w", c.CLA, c.INS, c.P1, c.P2, err)
	}
	return r.Data, r.Check(c)
}

// DoAll runs a list of commands, as a whole where d is a [Batcher], else one by
// one. The answers end at the first status other than 9000 of an entry without
// [Anyway]. With an error come the answers received before it.
func DoAll(ctx context.Context, d Doer, es []Entry) ([]Response, error) {
	if len(es) == 0 {
		return nil, nil
	}
	if b, ok := d.(Batcher); ok {
		return b.DoAll(ctx, es)
	}
	return oneByOne(ctx, d, es)
}

// RunAll is [DoAll] that takes an early end for an error: a [*StatusError] of the
// entry that ended the list. The answers are returned in any case.
func RunAll(ctx context.Context, d Doer, es []Entry) ([]Response, error) {
	rs, err := DoAll(ctx, d, es)
	if err != nil {
		return rs, fmt.Errorf("command %d of a list of %d: %w", len(rs)+1, len(es), err)
	}
	if n := len(rs); n > 0 && stops(es[n-1], rs[n-1]) {
		return rs, rs[n-1].Check(es[n-1].Command)
	}
	if len(rs) != len(es) {
		return rs, fmt.Errorf("list of %d commands: %d answers", len(es), len(rs))
	}
	return rs, nil
}

// Entries makes a list of commands, all with the same mode.
func Entries(m Mode, cs ...Command) []Entry {
	es := make([]Entry, len(cs))
	for i, c := range cs {
		es[i] = Entry{Command: c, Mode: m}
	}
	return es
}

// doerFunc is a function as a Doer.
type doerFunc func(ctx context.Context, cmd Command) (Response, error)

func (f doerFunc) Do(ctx context.Context, cmd Command) (Response, error) { return f(ctx, cmd) }

func oneByOne(ctx context.Context, d Doer, es []Entry) ([]Response, error) {
	rs := make([]Response, 0, len(es))
	for _, e := range es {
		r, err := d.Do(ctx, e.Command)
		if err != nil {
			return rs, err
		}
		rs = append(rs, r)
		if stops(e, r) {
			break
		}
	}
	return rs, nil
}
