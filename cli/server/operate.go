package server

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"

	"inkan/apdu"
	"inkan/tps"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// operations are those of the client protocol that this node runs.
var operations = map[wire.Operation]tps.Operation{
	wire.Format: tps.OpFormat, wire.Enroll: tps.OpEnroll, wire.Renew: tps.OpRenew,
	wire.ResetPIN: tps.OpPINReset, wire.KeyChangeover: tps.OpKeyChangeover,
}

// operate runs one operation of a client and returns the status for END_OP.
func (n *Node) operate(ctx context.Context, s *wire.Session) int {
	b := s.Begin()
	op, ok := operations[b.Operation]
	if !ok {
		return int(tps.StatusCannotPerform)
	}
	req := tps.Request{
		Operation: op, Locale: b.Extensions.Get(wire.ExtLocale),
		Profile: token.ProfileName(b.Extensions.Get(wire.ExtProfile)), KeySet: b.Extensions.Get(wire.ExtKeySet),
		Resume: b.Extensions.IsTrue(wire.ExtResume), Ticket: b.Extensions.IsTrue(wire.ExtTicket),
		Forms: b.Extensions.IsTrue(wire.ExtExtendedLogin), Client: s.RemoteAddr(),
	}
	if t := b.Extensions.Get(wire.ExtTokenType); t != "(null)" { // what ESC sends when it has none
		req.TokenType = t
	}
	if atr, err := apdu.ParseATR(b.Extensions.Get(wire.ExtTokenATR)); err == nil {
		req.ATR = atr
	}
	var client tps.Client = s
	if b := s.Batching(); b != nil {
		client = b
	}
	if s.DryRun() {
		return n.dryRun(ctx, s, req, client)
	}
	if err := n.Engine.Run(ctx, req, client); err != nil {
		return int(tps.StatusOf(err))
	}
	return int(tps.StatusOK)
}

// dryRun tells a client what an operation would do. What was refused before the card was
// read and planned for has its status alone, as that of an operation.
func (n *Node) dryRun(ctx context.Context, s *wire.Session, req tps.Request, client tps.Client) int {
	if err := s.AgreeToDryRun(ctx); err != nil {
		return int(tps.StatusConnectionLost)
	}
	preview, err := n.Engine.DryRun(ctx, req, client)
	if err == nil || preview.Refusal != nil {
		if err := n.report(ctx, s, preview); err != nil {
			n.log.WarnContext(ctx, "a dry run could not be reported", slog.Any("err", err))
			return int(tps.StatusConnectionLost)
		}
	}
	if err != nil {
		return int(tps.StatusOf(err))
	}
	return int(tps.StatusOK)
}

func (n *Node) report(ctx context.Context, s *wire.Session, preview tps.Preview) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // which would make texts longer than they may be
	if err := enc.Encode(preview); err != nil {
		return err
	}
	return s.Report(ctx, b.Bytes())
}
