package wire

import (
	"errors"
	"fmt"
	"io"
)

// inbox reads a stream's messages ahead, so that its end is noticed while nobody
// waits for a message. It holds one message: turn-taking allows no second one.
type inbox struct {
	messages chan Message
	done     chan struct{} // closed after err is set
	err      error
}

func newInbox() *inbox { return &inbox{messages: make(chan Message, 1), done: make(chan struct{})} }

// run reads until the stream ends, breaks the protocol, or END_OP, behind which
// nothing comes. It then calls ended.
func (in *inbox) run(r *Reader, ended func(error)) {
	defer func() {
		close(in.done)
		ended(in.err)
	}()
	for {
		m, err := r.Read()
		if err != nil {
			in.err = lost(err)
			return
		}
		if b, ok := m.(BeginOp); ok && b.batchSize() > 0 {
			r.limit = max(r.limit, MaxBatchMessage)
		}
		select {
		case in.messages <- m:
		default:
			in.err = fmt.Errorf("%w: unasked %v", ErrProtocol, m.Type())
			return
		}
		if m.Type() == TypeEndOp {
			in.err = errors.New("stream ended by END_OP")
			return
		}
	}
}

// poll returns a message that is there, or the error that ended the stream, or
// neither.
func (in *inbox) poll() (Message, error) {
	select {
	case m := <-in.messages:
		return m, nil
	default:
	}
	select {
	case <-in.done:
		// A message may have come between the two looks.
		select {
		case m := <-in.messages:
			return m, nil
		default:
			return nil, in.err
		}
	default:
		return nil, nil
	}
}

func lost(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return errors.New("connection closed")
	}
	return fmt.Errorf("connection lost: %w", err)
}
