package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxMessage is the largest message body that is read by default: the number
// behind s= (§1.5).
const MaxMessage = 9999

// Encode returns a message with its s= frame, to be sent as one chunk by one
// write. Where the message holds secrets the caller clears the bytes.
func Encode(m Message) ([]byte, error) {
	const room = 16 // for s=NNNNNN&
	w := &fieldWriter{b: make([]byte, room, 512)}
	w.int("msg_type", int(m.Type()))
	m.write(w)
	if w.err != nil {
		clear(w.b)
		return nil, fmt.Errorf("encoding %v: %w", m.Type(), w.err)
	}
	head := "s=" + strconv.Itoa(len(w.b)-room) + "&"
	start := room - len(head)
	copy(w.b[start:], head)
	return w.b[start:], nil
}

// Parse decodes a message body, that is what follows s=N&. Nothing in the result
// aliases body. A message that cannot be understood is an ErrProtocol, whose text
// holds nothing of the message but type and parameter names.
func Parse(body []byte) (Message, error) {
	r := splitFields(body)
	t := Type(r.needInt("msg_type"))
	if r.err != nil {
		return nil, r.err
	}
	m := r.message(t)
	if r.err != nil {
		return nil, fmt.Errorf("parsing %v: %w", t, r.err)
	}
	return m, nil
}

// Reader reads messages from a stream; chunk boundaries do not matter to it
// (§15.4). It is for one goroutine.
type Reader struct {
	br    *bufio.Reader
	limit int
}

// NewReader returns a Reader that refuses bodies longer than limit bytes;
// 0 is MaxMessage.
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 {
		limit = MaxMessage
	}
	// The smallest buffer: it holds the frame's head, so that passwords and PINs
	// go straight into a slice that is cleared.
	return &Reader{br: bufio.NewReaderSize(r, 16), limit: limit}
}

// Read returns the next message. The error is io.EOF only where the stream ended
// between two messages.
func (r *Reader) Read() (Message, error) {
	n, err := r.readHead()
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	defer clear(body)
	if _, err := io.ReadFull(r.br, body); err != nil {
		return nil, noEOF(err)
	}
	return Parse(body)
}

// readHead reads "s=", digits and "&" and returns the number.
func (r *Reader) readHead() (int, error) {
	c, err := r.br.ReadByte()
	if err != nil {
		return 0, err
	}
	if c != 's' {
		return 0, fmt.Errorf("%w: message does not begin with s=", ErrProtocol)
	}
	if c, err = r.br.ReadByte(); err != nil {
		return 0, noEOF(err)
	}
	if c != '=' {
		return 0, fmt.Errorf("%w: message does not begin with s=", ErrProtocol)
	}
	n := 0
	for digits := 0; ; digits++ {
		if c, err = r.br.ReadByte(); err != nil {
			return 0, noEOF(err)
		}
		switch {
		case c == '&' && digits > 0:
			return n, nil
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%w: message length is not a number", ErrProtocol)
		}
		n = n*10 + int(c-'0')
		if n > r.limit || digits > 8 {
			return 0, fmt.Errorf("%w: message longer than %d bytes", ErrProtocol, r.limit)
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fieldWriter collects &name=value pairs; the first error stays.
type fieldWriter struct {
	b   []byte
	err error
	any bool
}

func (w *fieldWriter) raw(name string, value []byte) { w.escaped(name, value, -1) }

func (w *fieldWriter) text(name string, value []byte) { w.escaped(name, value, int(escapeText)) }

func (w *fieldWriter) form(name, value string) { w.escaped(name, []byte(value), int(escapeForm)) }

func (w *fieldWriter) int(name string, n int) { w.raw(name, strconv.AppendInt(nil, int64(n), 10)) }

func (w *fieldWriter) flag(name string, on bool) {
	n := 0
	if on {
		n = 1
	}
	w.int(name, n)
}

func (w *fieldWriter) pdu(b []byte) {
	w.int("pdu_size", len(b))
	w.escaped("pdu_data", b, int(escapeAll))
}

// escaped appends one pair; how is an escape or -1 for none. The buffer grows by
// hand so that no uncleared copy of a secret stays behind.
func (w *fieldWriter) escaped(name string, value []byte, how int) {
	if need := len(w.b) + len(name) + 2 + 3*len(value); need > cap(w.b) {
		b := make([]byte, len(w.b), 2*need)
		copy(b, w.b)
		clear(w.b)
		w.b = b
	}
	if w.any {
		w.b = append(w.b, '&')
	}
	w.any = true
	w.b = append(w.b, name...)
	w.b = append(w.b, '=')
	if how < 0 {
		w.b = append(w.b, value...)
		return
	}
	w.b = appendEscaped(w.b, value, escape(how))
}

// fieldReader looks parameters up by name; the first error stays.
type fieldReader struct {
	fields []field
	err    error
}

type field struct{ name, value []byte } // alias the body

// splitFields splits at & and at the first = (§2). A token without = is dropped.
func splitFields(body []byte) *fieldReader {
	r := &fieldReader{}
	for token := range bytes.SplitSeq(body, []byte("&")) {
		if name, value, ok := bytes.Cut(token, []byte("=")); ok {
			r.fields = append(r.fields, field{name, value})
		}
	}
	return r
}

// get returns the last value of name.
func (r *fieldReader) get(name string) ([]byte, bool) {
	for i := len(r.fields) - 1; i >= 0; i-- {
		if string(r.fields[i].name) == name {
			return r.fields[i].value, true
		}
	}
	return nil, false
}

func (r *fieldReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
	}
}

// int returns a decimal number; an absent or empty one is 0, as ESC reads it.
func (r *fieldReader) int(name string) int {
	v, _ := r.get(name)
	if len(v) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil {
		r.fail("%s is not a number", name)
	}
	return int(n)
}

func (r *fieldReader) needInt(name string) int {
	if v, _ := r.get(name); len(v) == 0 {
		r.fail("%s is missing", name)
	}
	return r.int(name)
}

func (r *fieldReader) pdu() []byte {
	v, ok := r.get("pdu_data")
	if !ok {
		r.fail("pdu_data is missing")
		return nil
	}
	b, err := unescape(v, true)
	if err != nil {
		r.fail("pdu_data has a malformed %%XX")
		return nil
	}
	if n := r.needInt("pdu_size"); r.err == nil && n != len(b) {
		r.fail("pdu_data has %d bytes, pdu_size says %d", len(b), n)
	}
	return b
}
