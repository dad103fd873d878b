package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// CheckpointEvent is the event that signs the log up to an event before it. Fields:
// seq and head of that event, jws: what [Sign] made of them.
const CheckpointEvent = "AUDIT_CHECKPOINT"

// When a checkpoint is due.
const (
	CheckpointEvents = 1000             // so many events after the last one
	CheckpointEvery  = 15 * time.Minute // or so long after it, where there are any
)

// Head is how far a log goes: the number of an event and the SHA-256 of its line.
type Head struct {
	Seq  int64
	Hash string // hex
}

// Sign signs a head: the answer is kept in the log for ever.
type Sign func(ctx context.Context, h Head) (string, error)

// Heads keeps the newest signed head of each node's log outside of it, so that a log
// that was cut off is found out.
type Heads interface {
	AuditHead(ctx context.Context, node string) (Head, error) // token.ErrNotFound
	KeepAuditHead(ctx context.Context, node string, h Head) error
}

// Checkpoints signs a log now and then.
type Checkpoints struct {
	Log    *File
	Sign   Sign
	Heads  Heads
	Node   string
	Logger *slog.Logger
}

// Run makes checkpoints when they are due, until ctx ends, and then the last one.
func (c *Checkpoints) Run(ctx context.Context) {
	t := time.NewTicker(CheckpointEvery)
	defer t.Stop()
	for {
		if err := c.Make(context.WithoutCancel(ctx)); err != nil {
			c.Logger.ErrorContext(ctx, "signing the audit record", slog.Any("err", err))
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-c.Log.due:
		}
	}
}

// Make signs what the log has now; a log whose newest event is a checkpoint stays.
func (c *Checkpoints) Make(ctx context.Context) error {
	h, signed := c.Log.Head()
	if signed || h.Seq == 0 {
		return nil
	}
	jws, err := c.Sign(ctx, h)
	if err != nil {
		return fmt.Errorf("signing the audit record up to event %d: %w", h.Seq, err)
	}
	e := Event{Name: CheckpointEvent, Outcome: Success, Fields: map[string]string{"seq": strconv.FormatInt(h.Seq, 10), "head": h.Hash, "jws": jws}}
	if err := c.Log.Record(ctx, e); err != nil {
		return err
	}
	return c.Heads.KeepAuditHead(ctx, c.Node, h)
}

// Head is how far the log goes, and whether its newest event is a checkpoint.
func (l *File) Head() (h Head, signed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Head{l.head.seq, l.head.hash}, l.since == 0
}

// count notes an event that was written, and says when a checkpoint is due.
func (l *File) count(name string) {
	if name == CheckpointEvent {
		l.since = 0
		return
	}
	if l.since++; l.since%CheckpointEvents == 0 {
		select {
		case l.due <- struct{}{}:
		default:
		}
	}
}

// Signature is a checkpoint that was checked.
type Signature struct {
	Head
	Time time.Time // of the signature
	KID  string
	// Doubt is why the signature proves little: its key was given up before.
	Doubt string
}

// CheckSignature reads what [Sign] made. An error means that no key of ours did.
type CheckSignature func(jws string) (Signature, error)

// Proof is what the signatures in a log prove.
type Proof struct {
	Summary
	Checkpoints int64
	Signed      Head      // the newest that is signed without a doubt
	SignedAt    time.Time // when
	KIDs        []string  // of the keys that signed, in the order of the log
	Doubts      []string
	// Unsigned counts the events behind Signed that are no checkpoints.
	Unsigned int64
}

// window is how far a checkpoint may be behind the event that it signs.
const window = 10_000

// Prove verifies the chain and every checkpoint of the log in folder dir, and that
// the log has what kept says was signed; kept may be zero. [ErrTampered] names the
// line.
func Prove(dir string, check CheckSignature, kept Head) (Proof, error) {
	p := prover{check: check, kept: kept, hashes: map[int64]string{}}
	var err error
	p.out.Summary, err = Scan(dir, p.event)
	if err != nil {
		return p.out, err
	}
	p.remember(Head{p.out.Events, p.out.Head})
	if kept.Seq > 0 && !p.seen {
		return p.out, fmt.Errorf("%w: event %d was signed and the log does not have it: it ends with %d, or was replaced", ErrTampered, kept.Seq, p.out.Events)
	}
	return p.out, nil
}

// prover goes through a log.
type prover struct {
	check  CheckSignature
	kept   Head
	seen   bool             // kept was there
	hashes map[int64]string // of the latest lines
	out    Proof
}

// remember notes the hash of a line.
func (p *prover) remember(h Head) {
	p.hashes[h.Seq] = h.Hash
	delete(p.hashes, h.Seq-window)
	if h == p.kept {
		p.seen = true
	}
}

func (p *prover) event(e Event) error {
	p.remember(Head{e.Seq - 1, e.Prev})
	if e.Name != CheckpointEvent {
		p.out.Unsigned++
		return nil
	}
	s, err := p.check(e.Fields["jws"])
	if err != nil {
		return fmt.Errorf("%w: line %d: the checkpoint is by none of the keys for it: %w", ErrTampered, e.Seq, err)
	}
	if s.Hash == "" || s.Seq >= e.Seq || p.hashes[s.Seq] != s.Hash {
		return fmt.Errorf("%w: line %d: the checkpoint is about another event %d", ErrTampered, e.Seq, s.Seq)
	}
	p.out.Checkpoints++
	if n := len(p.out.KIDs); n == 0 || p.out.KIDs[n-1] != s.KID {
		p.out.KIDs = append(p.out.KIDs, s.KID)
	}
	if s.Doubt != "" {
		p.out.Doubts = append(p.out.Doubts, fmt.Sprintf("event %d: %s", e.Seq, s.Doubt))
		return nil
	}
	p.out.Signed, p.out.SignedAt = s.Head, s.Time
	p.out.Unsigned = e.Seq - 1 - s.Seq
	return nil
}
