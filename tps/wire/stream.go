package wire

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The longest frames that the known clients' buffers take (§1.5). An APDU for
// tpsclient's soft token is a short one, whose frame is below 900 bytes.
const (
	maxChunk     = 2045 // tpsclient's
	maxAPDUChunk = 4095 // ESC's
)

// stream is the response body of one conversation: one frame, one write, one
// chunk (§1.6).
type stream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

// open sends the response head. Full duplex comes before the first write, else
// that would wait for the end of the request body.
func (s *stream) open() error {
	if err := s.rc.EnableFullDuplex(); err != nil {
		return fmt.Errorf("enabling full duplex: %w", err)
	}
	// A server-wide ReadTimeout would cut the conversation.
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("clearing the read deadline: %w", err)
	}
	if err := s.rc.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return fmt.Errorf("setting the write deadline: %w", err)
	}
	h := s.w.Header()
	h.Set("Connection", "close")
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
	return s.rc.Flush()
}

// write sends a frame and clears it.
func (s *stream) write(frame []byte) error {
	defer clear(frame)
	s.rc.SetWriteDeadline(time.Now().Add(s.timeout))
	if _, err := s.w.Write(frame); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	return nil
}

// close lets ServeHTTP return at once: the terminal chunk goes out within a new
// deadline, and neither the reader nor net/http waits for more of the body.
func (s *stream) close() {
	s.rc.SetWriteDeadline(time.Now().Add(s.timeout))
	s.rc.SetReadDeadline(time.Unix(1, 0))
}

func encodeRequest(m Message) ([]byte, error) {
	frame, err := Encode(m)
	if err != nil {
		return nil, err
	}
	limit := maxChunk
	switch m.Type() {
	case TypeTokenPDURequest:
		limit = maxAPDUChunk
	case TypeTokenPDUBatchRequest, TypeDryRunRequest:
		limit = MaxBatchMessage // the body; its parameters keep well below
	}
	if len(frame) > limit {
		clear(frame)
		return nil, fmt.Errorf("%v does not fit the clients' buffers: %d bytes, at most %d", m.Type(), len(frame), limit)
	}
	return frame, nil
}

// end sends END_OP, always (§15.9), and returns what ended the conversation
// early, if something did. Where the client still owes an answer it waits a
// moment for it: closing a connection with unread data would reset it, and the
// client might lose END_OP.
func (s *Session) end(status int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := encodeRequest(EndOp{Operation: s.begin.Operation, Status: status})
	if err == nil {
		err = s.send(frame)
	}
	if s.err == nil && err != nil {
		s.err = fmt.Errorf("%w: %w", ErrClientGone, err)
	}
	if s.waiting {
		timer := time.NewTimer(s.cfg.Linger)
		defer timer.Stop()
		select {
		case <-s.inbox.done:
		case <-s.inbox.messages:
		case <-timer.C:
		}
	}
	err = s.err
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", ErrClientGone, errors.New("the operation has ended"))
	}
	return err
}
