package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks"
)

// Operation names what a request or an administrator did.
type Operation string

// Operations.
const (
	opSession Operation = "TKS_DERIVE_SESSION"
	opWrap    Operation = "TKS_WRAP_KEY_SET"
	opEncrypt Operation = "TKS_ENCRYPT"
	opCreate  Operation = "TKS_CREATE_KEY_SET"
	opImport  Operation = "TKS_IMPORT_KEY_SET"
	opRetire  Operation = "TKS_RETIRE_KEY_SET"
	opRelease Operation = "TKS_RELEASE_CARD"

	opManagement Operation = "TKS_PIV_MANAGEMENT_KEY"
	opPUK        Operation = "TKS_PIV_PUK"
)

// Event is one use of the key service. It holds no secret.
type Event struct {
	Time          time.Time
	Operation     Operation
	Peer          string // who asked, as Config.Peer says; for administration, who did it
	KeySet        tks.KeySetName
	KeyVersion    gp.KeyVersion
	NewKeySet     tks.KeySetName // TKS_WRAP_KEY_SET
	NewKeyVersion gp.KeyVersion
	CUID          apdu.CUID // a claim
	KDD           gp.KDD
	Err           error // nil: done
}

// AuditFunc records an event durably. An error of it means that nothing is
// handed out.
type AuditFunc func(ctx context.Context, e Event) error

func newEvent(op Operation, p tks.CardProof, err error) Event {
	return Event{Operation: op, KeySet: p.KeySet, KeyVersion: p.KeyVersion, CUID: p.CUID, KDD: p.KDD, Err: err}
}

// record writes an event and returns the request's error, or why it could not be
// recorded. A request whose caller has gone is still recorded.
func (s *Service) record(ctx context.Context, e Event, err error) error {
	if s.cfg.Audit == nil {
		return err
	}
	e.Time = s.cfg.Now().UTC()
	if e.Peer == "" {
		e.Peer = s.cfg.Peer(ctx)
	}
	if aerr := s.cfg.Audit(context.WithoutCancel(ctx), e); aerr != nil {
		return errors.Join(err, fmt.Errorf("recording %s: %w: %w", e.Operation, aerr, tks.ErrUnavailable))
	}
	return err
}
