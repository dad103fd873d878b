package wire

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// A dry run, dryRun=true in BEGIN_OP, has the server read the card and report what the
// operation would do. A server that does not know dry runs ignores the extension and would
// do it, so the client relies on nobody: the server has to agree before anything else, by
// a DRY_RUN_REQUEST without report, and nothing reaches the card but commands that read
// ([Reads]). The report comes in another DRY_RUN_REQUEST, before END_OP.

// Errors of dry runs.
var (
	// ErrNoDryRun means that the server would do the operation: the client broke off before
	// anything was sent to the card.
	ErrNoDryRun = errors.New("the server does not know dry runs and would do what it was asked for")
	// ErrDryRun is what has no place in a dry run: a command that may change the card, or a
	// question that only a real operation has. It was not carried out.
	ErrDryRun = errors.New("this has no place in a dry run")
)

// maxReport is the longest report, bytes.
const maxReport = batchRoom

// DryRunRequest says that this is a dry run, and with a report what it found.
type DryRunRequest struct{ Report []byte }

// DryRunResponse acknowledges a DryRunRequest.
type DryRunResponse struct{}

// Type implements Message.
func (DryRunRequest) Type() Type { return TypeDryRunRequest }

// Type implements Message.
func (DryRunResponse) Type() Type { return TypeDryRunResponse }

// String shows the length only.
func (m DryRunRequest) String() string { return fmt.Sprintf("%v len=%d", m.Type(), len(m.Report)) }

// GoString is String.
func (m DryRunRequest) GoString() string { return m.String() }

// String is the type.
func (m DryRunResponse) String() string { return m.Type().String() }

func (m DryRunRequest) write(w *fieldWriter) {
	if len(m.Report) > maxReport {
		w.err = fmt.Errorf("report of %d bytes, at most %d", len(m.Report), maxReport)
		return
	}
	if len(m.Report) > 0 {
		w.raw("report", base64.RawURLEncoding.AppendEncode(nil, m.Report))
	}
}

func (DryRunResponse) write(*fieldWriter) {}

func (r *fieldReader) dryRunRequest() Message {
	v, _ := r.get("report")
	if len(v) > MaxBatchMessage {
		r.fail("report of %d bytes", len(v))
		return nil
	}
	b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, v)
	if err != nil || len(b) != base64.RawURLEncoding.DecodedLen(len(v)) { // fewer where line ends were skipped
		r.fail("report is not base64url")
		return nil
	}
	return DryRunRequest{Report: b}
}

// DryRun reports whether the client asked for a dry run. Then the session refuses what has
// no place in one with [ErrDryRun], before the client hears of it.
func (s *Session) DryRun() bool { return s.begin.Extensions.IsTrue(ExtDryRun) }

// AgreeToDryRun tells the client that this will be a dry run. It comes before everything
// else: without it the client breaks off.
func (s *Session) AgreeToDryRun(ctx context.Context) error { return s.dryRun(ctx, nil) }

// Report tells the client what a dry run found, in at most 48 KiB.
func (s *Session) Report(ctx context.Context, report []byte) error { return s.dryRun(ctx, report) }

func (s *Session) dryRun(ctx context.Context, report []byte) error {
	if _, err := s.exchange(ctx, DryRunRequest{Report: report}, TypeDryRunResponse); err != nil {
		return fmt.Errorf("telling the client of the dry run: %w", err)
	}
	return nil
}

// mayTransmit refuses a command that has no place in a dry run.
func (s *Session) mayTransmit(cmd []byte) error {
	if !s.DryRun() {
		return nil
	}
	return mustRead(cmd)
}

func mustRead(cmd []byte) error {
	if Reads(cmd) {
		return nil
	}
	return fmt.Errorf("the command %X may change the card: %w", cmd[:min(4, len(cmd))], ErrDryRun)
}

// dryRun is the client's part of a dry run; nil where the operation is done.
type dryRun struct {
	agreed bool
	asked  []string // fields of the login's form
	report []byte
}

// allows refuses what has no place in a dry run: nothing of m is carried out.
func (d *dryRun) allows(m Message) error {
	if d == nil {
		return nil
	}
	var err error
	switch m := m.(type) {
	case DryRunRequest:
		return nil
	case TokenPDURequest:
		err = mustRead(m.APDU)
	case TokenPDUBatchRequest:
		for _, f := range m.Frames {
			err = errors.Join(err, mustRead(f.Cmd))
		}
	case NewPINRequest:
		err = fmt.Errorf("the server asks for a new PIN: %w", ErrDryRun)
	case ExtendedLoginRequest:
		err = d.mayAsk(m)
	}
	if !d.agreed {
		err = ErrNoDryRun
	}
	if err != nil {
		return local("%w", err)
	}
	return nil
}

// mayAsk lets the login be repeated, and no other question come behind it.
func (d *dryRun) mayAsk(m ExtendedLoginRequest) error {
	var ids []string
	for _, f := range m.Form.Fields {
		ids = append(ids, f.ID)
	}
	if d.asked != nil && !slices.Equal(d.asked, ids) {
		return fmt.Errorf("the server asks for more than the login: %w", ErrDryRun)
	}
	d.asked = ids
	return nil
}

// hear takes the server's word.
func (c *conversation) hear(m DryRunRequest) (Message, error) {
	if c.dry == nil {
		return nil, fmt.Errorf("%w: %v was not asked for", ErrProtocol, m.Type())
	}
	c.dry.agreed = true
	if len(m.Report) > 0 {
		c.dry.report = m.Report
	}
	return DryRunResponse{}, nil
}

// told is the report; a success without one is none.
func (d *dryRun) told(end EndOp) ([]byte, error) {
	if d == nil {
		return nil, nil
	}
	if end.Status == 0 && len(d.report) == 0 {
		return nil, local("%w: it ended without a report", ErrNoDryRun)
	}
	return d.report, nil
}
