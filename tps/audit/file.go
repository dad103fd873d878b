package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"inkan/apdu/durable"
	"inkan/tps/internal/group"
)

// FileName is the name of the log in its folder.
const FileName = "audit.jsonl"

// MaxLine is the longest event, in bytes of its line.
const MaxLine = 256 << 10

// Repaired is the event that follows the removal of an incomplete last line,
// which a crash had left: it was never acknowledged. Fields: bytes, sha256.
const Repaired = "AUDIT_LOG_REPAIRED"

// File is a [Log] in one file: a JSON object per line, each with the SHA-256 of
// the line before (without its line feed) in hexadecimal. It is safe
// for concurrent use by one process; two processes would break the chain.
type File struct {
	path  string
	group group.Group[*recording]

	mu     sync.Mutex
	f      *os.File
	size   int64
	head   head
	broken bool // what is in the file is not known: read it again
	closed bool
	since  int64         // events behind the last checkpoint, as far as this process knows
	due    chan struct{} // a checkpoint is
}

// head is where the chain ends.
type head struct {
	seq  int64
	hash string
}

// origin is the head of the empty chain.
var origin = head{hash: hex.EncodeToString(make([]byte, sha256.Size))}

var errClosed = errors.New("audit log is closed")

// OpenFile opens the log in folder dir, which must exist, or begins one with
// mode 0600. It goes on where the chain ends; [Verify] checks the whole of it.
// An incomplete last line is removed and that is recorded. A last line that is
// complete but no event is an error: somebody else wrote it.
func OpenFile(dir string) (*File, error) {
	l := &File{path: filepath.Join(dir, FileName), due: make(chan struct{}, 1)}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return l, nil
}

// open opens the file and reads where the chain ends.
func (l *File) open() error {
	err := l.load()
	l.broken = err != nil
	return err
}

func (l *File) load() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	end, err := readEnd(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if end.seq < l.head.seq {
		return errors.Join(fmt.Errorf("%s lost events: it ends with %d, %d were written", l.path, end.seq, l.head.seq), f.Close())
	}
	l.f, l.size, l.head, l.since = f, end.size, end.head, 1
	if end.last == CheckpointEvent {
		l.since = 0
	}
	if err := durable.SyncDir(filepath.Dir(l.path)); err != nil {
		return errors.Join(err, l.f.Close())
	}
	if len(end.torn) == 0 {
		return nil
	}
	if err := l.repair(end.torn); err != nil {
		return errors.Join(err, l.f.Close())
	}
	return nil
}

// repair removes the torn line.
func (l *File) repair(torn []byte) error {
	if err := l.f.Truncate(l.size); err != nil {
		return fmt.Errorf("removing an incomplete line: %w", err)
	}
	sum := sha256.Sum256(torn)
	line, err := encode(Event{Name: Repaired, Outcome: Success,
		Fields: map[string]string{"bytes": strconv.Itoa(len(torn)), "sha256": hex.EncodeToString(sum[:])}}, l.head)
	if err != nil {
		return err
	}
	l.count(Repaired)
	return l.write(append(line, '\n'), head{l.head.seq + 1, hashOf(line)})
}

// Record implements Log. Events that come while the file is flushed are written and
// flushed together. After an error the event is not in the log, or, if the
// disk did not say, the next Record finds out; either way the chain stays whole.
func (l *File) Record(ctx context.Context, e Event) error {
	r := &recording{event: e}
	err := l.group.Do(ctx, r, l.recordAll)
	if err == nil {
		err = r.err
	}
	if err != nil {
		return fmt.Errorf("recording audit event %s: %w", e.Name, err)
	}
	return nil
}

// recording is an event on its way into the file.
type recording struct {
	event Event
	err   error
}

// recordAll writes events by one flush. One that is refused does not touch the others.
func (l *File) recordAll(all []*recording) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.usable()
	var lines []byte
	end, written := l.head, all[:0:0]
	for _, r := range all {
		if r.err = err; err != nil {
			continue
		}
		var line []byte
		if line, r.err = encode(r.event, end); r.err != nil {
			continue
		}
		lines = append(append(lines, line...), '\n')
		end = head{end.seq + 1, hashOf(line)}
		written = append(written, r)
	}
	if len(written) == 0 {
		return
	}
	err = l.write(lines, end)
	for _, r := range written {
		if r.err = err; err == nil {
			l.count(r.event.Name)
		}
	}
}

// usable reads the file again where what is in it is not known.
func (l *File) usable() error {
	if l.closed {
		return errClosed
	}
	if l.broken {
		l.f.Close() // reading it anew
		return l.open()
	}
	return nil
}

// encode makes the line of the event that comes behind end, without line feed.
func encode(e Event, end head) ([]byte, error) {
	if e.Name == "" {
		return nil, errors.New("event without a name")
	}
	e.Seq, e.Prev = end.seq+1, end.hash
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	line, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(line) > MaxLine {
		return nil, fmt.Errorf("event of %d bytes, at most %d", len(line), MaxLine)
	}
	return line, nil
}

// write appends whole lines that end the chain with end, durably.
func (l *File) write(lines []byte, end head) error {
	if _, err := l.f.Write(lines); err != nil { // full disk: a part may be there
		l.broken = l.f.Truncate(l.size) != nil
		return err
	}
	if err := l.f.Sync(); err != nil {
		l.broken = true
		return err
	}
	l.size += int64(len(lines))
	l.head = end
	return nil
}

// Close closes the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.f.Close()
}

func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}
