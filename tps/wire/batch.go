package wire

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// Limits of a batch (design.md §4).
const (
	MaxBatchFrames  = 256   // commands of one batch, and the N of pduBatch=N
	MaxBatchMessage = 65536 // message body, bytes
	DefaultBatch    = 128   // what our own clients offer
)

// batchRoom is what the commands or answers of one batch may take, with their
// lengths and flags, so that base64url and the other parameters fit the body.
const batchRoom = (MaxBatchMessage - 256) / 4 * 3

// flagAnyway says that a batch goes on behind this command whatever its status.
const flagAnyway = 0x01

// TokenPDUBatchRequest carries several command APDUs, to be run in order.
type TokenPDUBatchRequest struct {
	Frames []apdu.Frame
	// Progress, where there is any, spares a STATUS_UPDATE_REQUEST of its own: it
	// is told to the person before the commands run.
	Progress *StatusUpdateRequest
}

// TokenPDUBatchResponse carries the answers of the commands that ran.
type TokenPDUBatchResponse struct{ APDUs [][]byte }

// Type implements Message.
func (TokenPDUBatchRequest) Type() Type { return TypeTokenPDUBatchRequest }

// Type implements Message.
func (TokenPDUBatchResponse) Type() Type { return TypeTokenPDUBatchResponse }

// String shows the number of commands only.
func (m TokenPDUBatchRequest) String() string {
	return fmt.Sprintf("%v count=%d", m.Type(), len(m.Frames))
}

// GoString is String.
func (m TokenPDUBatchRequest) GoString() string { return m.String() }

// String shows the number of answers only.
func (m TokenPDUBatchResponse) String() string {
	return fmt.Sprintf("%v count=%d", m.Type(), len(m.APDUs))
}

// GoString is String.
func (m TokenPDUBatchResponse) GoString() string { return m.String() }

// wipe clears the commands: they may hold PINs.
func (m TokenPDUBatchRequest) wipe() {
	for _, f := range m.Frames {
		clear(f.Cmd)
	}
}

func (m TokenPDUBatchRequest) write(w *fieldWriter) {
	n := 0
	for _, f := range m.Frames {
		n += 3 + len(f.Cmd)
	}
	b := make([]byte, 0, n)
	defer func() { clear(b) }()
	for _, f := range m.Frames {
		flags := byte(0)
		if f.Anyway {
			flags = flagAnyway
		}
		if len(f.Cmd) < 4 || len(f.Cmd) > 0xFFFF {
			w.err = fmt.Errorf("command APDU of %d bytes", len(f.Cmd))
			return
		}
		b = append(binary.BigEndian.AppendUint16(append(b, flags), uint16(len(f.Cmd))), f.Cmd...)
	}
	w.batch(len(m.Frames), b)
	if m.Progress != nil {
		m.Progress.write(w)
	}
}

func (m TokenPDUBatchResponse) write(w *fieldWriter) {
	var b []byte
	for _, a := range m.APDUs {
		if len(a) < 2 || len(a) > 0xFFFF {
			w.err = fmt.Errorf("response APDU of %d bytes", len(a))
			return
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(a))), a...)
	}
	w.batch(len(m.APDUs), b)
}

// batch writes the two parameters of a batch.
func (w *fieldWriter) batch(count int, b []byte) {
	if count == 0 || count > MaxBatchFrames || len(b) > batchRoom {
		w.err = fmt.Errorf("batch of %d APDUs in %d bytes, at most %d in %d", count, len(b), MaxBatchFrames, batchRoom)
		return
	}
	w.int("pdu_count", count)
	text := make([]byte, base64.RawURLEncoding.EncodedLen(len(b)))
	defer clear(text)
	base64.RawURLEncoding.Encode(text, b)
	w.raw("pdu_data", text)
}

// batch reads the two parameters of a batch.
func (r *fieldReader) batch() (count int, b []byte) {
	count = r.needInt("pdu_count")
	v, ok := r.get("pdu_data")
	switch {
	case r.err != nil:
		return 0, nil
	case !ok:
		r.fail("pdu_data is missing")
		return 0, nil
	case count < 1 || count > MaxBatchFrames || len(v) > MaxBatchMessage:
		r.fail("batch of %d APDUs", count)
		return 0, nil
	}
	strict := base64.RawURLEncoding.Strict()
	b = make([]byte, strict.DecodedLen(len(v)))
	n, err := strict.Decode(b, v)
	if err != nil || n != len(b) { // n is smaller where line ends were skipped
		clear(b)
		r.fail("pdu_data is not base64url")
		return 0, nil
	}
	return count, b
}

func (r *fieldReader) batchRequest() Message {
	count, b := r.batch()
	defer clear(b)
	m := TokenPDUBatchRequest{Frames: make([]apdu.Frame, 0, count)}
	rest := b
	for range count {
		if len(rest) < 3 || rest[0]&^flagAnyway != 0 {
			r.fail("command of a batch is cut or has unknown flags")
			break
		}
		anyway := rest[0] == flagAnyway
		var cmd []byte
		if cmd, rest = r.counted(rest[1:], 4); r.err != nil {
			break
		}
		m.Frames = append(m.Frames, apdu.Frame{Cmd: cmd, Anyway: anyway})
	}
	r.nothingLeft(rest)
	if r.err != nil {
		m.wipe()
		return nil
	}
	if _, ok := r.get("current_state"); ok {
		p := r.progress()
		m.Progress = &p
	}
	return m
}

func (r *fieldReader) batchResponse() Message {
	count, rest := r.batch()
	m := TokenPDUBatchResponse{APDUs: make([][]byte, 0, count)}
	for range count {
		var a []byte
		if a, rest = r.counted(rest, 2); r.err != nil {
			return nil
		}
		m.APDUs = append(m.APDUs, a)
	}
	r.nothingLeft(rest)
	return m
}

// counted cuts length(2) and that many bytes, at least min, and copies them.
func (r *fieldReader) counted(b []byte, min int) (v, rest []byte) {
	if len(b) < 2 {
		r.fail("APDU of a batch is cut")
		return nil, nil
	}
	n := int(binary.BigEndian.Uint16(b))
	if n < min || n > len(b)-2 {
		r.fail("APDU of a batch has %d bytes", n)
		return nil, nil
	}
	return append([]byte(nil), b[2:2+n]...), b[2+n:]
}

func (r *fieldReader) nothingLeft(rest []byte) {
	if r.err == nil && len(rest) > 0 {
		r.fail("%d bytes behind the last APDU of a batch", len(rest))
	}
}
