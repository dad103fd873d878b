package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ErrTampered means that the log is not the one that was written: a line was
// changed, removed, added or moved.
var ErrTampered = errors.New("audit log is not as it was written")

// Summary is what a log holds.
type Summary struct {
	Events      int64
	First, Last time.Time
	Head        string // hex SHA-256 of the last line: kept elsewhere, it proves later that no event was cut off
	Torn        int64  // bytes of an incomplete last line: a crash, or an event being written right now
}

// Scan verifies the log in folder dir and calls each, if not nil, for every
// event in order. It stops at the first error.
func Scan(dir string, each func(Event) error) (Summary, error) {
	f, err := os.Open(filepath.Join(dir, FileName))
	if err != nil {
		return Summary{}, fmt.Errorf("reading audit log: %w", err)
	}
	defer f.Close()
	s := Summary{Head: origin.hash}
	r := bufio.NewReaderSize(f, MaxLine+1)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF:
			s.Torn = int64(len(line))
			return s, nil
		case err == bufio.ErrBufferFull:
			return s, fmt.Errorf("%w: line %d is longer than %d bytes", ErrTampered, s.Events+1, MaxLine)
		case err != nil:
			return s, fmt.Errorf("reading audit log: %w", err)
		}
		line = line[:len(line)-1]
		if torn(line) { // only the last one can be
			s.Torn = int64(len(line)) + 1
			if _, err := r.ReadByte(); err == io.EOF {
				return s, nil
			}
			return s, fmt.Errorf("%w: line %d is torn", ErrTampered, s.Events+1)
		}
		e, err := next(line, head{s.Events, s.Head})
		if err != nil {
			return s, err
		}
		if s.Events++; s.Events == 1 {
			s.First = e.Time
		}
		s.Last, s.Head = e.Time, hashOf(line)
		if each == nil {
			continue
		}
		if err := each(e); err != nil {
			return s, err
		}
	}
}

// next reads the line that follows the head of a chain.
func next(line []byte, after head) (Event, error) {
	e, err := parseLine(line)
	switch {
	case err != nil:
		return Event{}, fmt.Errorf("%w: line %d: %w", ErrTampered, after.seq+1, err)
	case e.Seq != after.seq+1:
		return Event{}, fmt.Errorf("%w: line %d has number %d", ErrTampered, after.seq+1, e.Seq)
	case e.Prev != after.hash:
		return Event{}, fmt.Errorf("%w: line %d does not follow the line before", ErrTampered, after.seq+1)
	}
	return e, nil
}

// parseLine reads one event. Fields of later versions pass; the hash covers them.
func parseLine(line []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("parsing audit event: %w", err)
	}
	if e.Seq < 1 || len(e.Prev) != len(origin.hash) || e.Name == "" {
		return Event{}, errors.New("parsing audit event: seq, event or prev is missing")
	}
	return e, nil
}

// torn says whether the pages of a line did not all reach the disk: JSON has no zero bytes.
func torn(line []byte) bool { return bytes.IndexByte(line, 0) >= 0 }

// end is how a log ends.
type end struct {
	head
	last string // name of the last event
	size int64  // up to and with the last complete line
	torn []byte // what is behind it
}

// readEnd finds the last complete line of a log.
func readEnd(f *os.File) (end, error) {
	info, err := f.Stat()
	if err != nil {
		return end{}, err
	}
	// The last complete line and a torn one behind it are within two of the longest.
	from := max(0, info.Size()-2*(MaxLine+1))
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return end{}, err
	}
	e := end{head: origin, size: info.Size()}
	e.cut(&tail, bytes.LastIndexByte(tail, '\n')+1)
	line, start := lastLine(tail)
	if torn(line) {
		e.cut(&tail, start)
		line, _ = lastLine(tail)
	}
	if len(tail) == 0 && from == 0 {
		return e, nil
	}
	last, err := parseLine(line)
	if err != nil {
		return end{}, fmt.Errorf("last line: %w", err)
	}
	e.head, e.last = head{last.Seq, hashOf(line)}, last.Name
	return e, nil
}

// cut makes what is behind tail[:n] a part of the torn line.
func (e *end) cut(tail *[]byte, n int) {
	e.torn = append(bytes.Clone((*tail)[n:]), e.torn...)
	e.size -= int64(len(*tail) - n)
	*tail = (*tail)[:n]
}

// lastLine returns the last line of tail, which ends with a line feed, without
// it, and where it starts.
func lastLine(tail []byte) ([]byte, int) {
	line := bytes.TrimSuffix(tail, []byte{'\n'})
	start := bytes.LastIndexByte(line, '\n') + 1
	return line[start:], start
}
