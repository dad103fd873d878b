package securechannel

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
)

// Instructions and classes of the two commands that open a channel
// (GlobalPlatform 2.2.1 §E.5).
const (
	claGP                   = 0x80
	insInitializeUpdate     = 0x50
	insExternalAuthenticate = 0x82
)

// Initialize sends INITIALIZE UPDATE and decodes the answer. It proves nothing
// and opens nothing; it ends whatever channel was open, and the next
// EXTERNAL AUTHENTICATE would belong to it. Callers probe key versions with it:
// a version the card does not have is an *apdu.StatusError of 6A88.
//
// A card in S16 mode answers 6700 to a host challenge of 8 bytes; asking again
// with 16 is the caller's choice.
func Initialize(ctx context.Context, d apdu.Doer, req Request) (InitUpdate, error) {
	if n := len(req.HostChallenge); n != 8 && n != 16 {
		return InitUpdate{}, fmt.Errorf("INITIALIZE UPDATE: host challenge of %d bytes, want 8 or 16", n)
	}
	if req.HintProtocol != 0 {
		if err := checkHint(req); err != nil {
			return InitUpdate{}, err
		}
	}
	data, err := apdu.Run(ctx, d, apdu.Command{
		CLA: claGP, INS: insInitializeUpdate, P1: byte(req.KeyVersion), P2: req.KeyIndex,
		Data: req.HostChallenge, Ne: apdu.MaxShortNe,
	})
	if err != nil {
		return InitUpdate{}, fmt.Errorf("INITIALIZE UPDATE: %w", err)
	}
	iu, err := ParseInitializeUpdate(data, req)
	if err != nil {
		return InitUpdate{}, fmt.Errorf("INITIALIZE UPDATE: %w", err)
	}
	return iu, nil
}

// checkHint refuses before anything is sent what the card is known to want and
// is not implemented. The option of SCP03 comes with the answer.
func checkHint(req Request) error {
	if req.HintProtocol == SCP03 {
		return nil
	}
	if err := CheckOption(req.HintProtocol, req.HintOption); err != nil {
		return fmt.Errorf("INITIALIZE UPDATE: %w", err)
	}
	return nil
}

// Open opens a secure channel to the application that is selected: INITIALIZE
// UPDATE, the session keys from keys, the card cryptogram verified, EXTERNAL
// AUTHENTICATE. The Session owns the session keys and wipes them when closed.
//
// Errors: [ErrCryptogram], apdu.ErrUnsupported for a protocol, option or level
// that is not implemented, an *apdu.StatusError where the card refuses, and
// those of keys. EXTERNAL AUTHENTICATE is never sent to a card that has not
// proved itself. No attempt is repeated: cards count them.
func Open(ctx context.Context, d apdu.Doer, req Request, keys KeySource) (*Session, error) {
	iu, err := Initialize(ctx, d, req)
	if err != nil {
		return nil, fmt.Errorf("opening secure channel: %w", err)
	}
	level := req.Level
	if req.Choose != nil {
		level = req.Choose(iu)
	}
	if err := CheckLevel(iu.Protocol, iu.Option, level); err != nil {
		return nil, fmt.Errorf("opening secure channel: %w", err)
	}
	k, err := keys(ctx, iu)
	if err != nil {
		return nil, fmt.Errorf("opening secure channel: session keys of %v key version %v: %w", iu.Protocol, iu.KeyVersion, err)
	}
	s := &Session{
		inner: d, info: iu, level: level, keys: k, turn: make(chan struct{}, 1),
		noLe: req.Dialect&NoLe != 0 && iu.Protocol == SCP01,
	}
	err = s.prepare(req.Dialect)
	if err == nil && !req.Together {
		err = s.Authenticate(ctx)
	}
	if err != nil {
		k.Wipe()
		return nil, fmt.Errorf("opening secure channel: %v key version %v: %w", iu.Protocol, iu.KeyVersion, err)
	}
	return s, nil
}

// prepare verifies the card and makes the proof of the host that it is sent.
func (s *Session) prepare(d Dialect) error {
	if err := checkKeys(s.info.Protocol, s.level, s.keys); err != nil {
		return err
	}
	if err := VerifyCard(s.info, s.keys); err != nil {
		return err
	}
	cryptogram, err := hostCryptogram(s.info, s.keys)
	if err != nil {
		return err
	}
	sm, err := newMessaging(s.info.Protocol, s.info.Option, s.level, s.keys, d)
	if err != nil {
		return err
	}
	cmd, first, err := sm.authenticate(cryptogram)
	if err != nil {
		return err
	}
	s.proof, s.sm, s.chain, s.responses = &cmd, sm, first, first.two
	return nil
}

// Authenticate proves the host to the card, unless that is done: it sends what
// Request.Together held back. The session ends where the card refuses it. On a
// session that has ended it does nothing.
func (s *Session) Authenticate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.proof == nil {
		return nil
	}
	_, err := s.send(ctx, nil)
	return err
}

// send sends a wrapped list, behind the proof of the host if that is due. With an
// error come the answers received before it.
func (s *Session) send(ctx context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	if s.proof == nil {
		return apdu.DoAll(ctx, s.inner, es)
	}
	proof := *s.proof
	s.proof = nil
	rs, err := apdu.DoAll(ctx, s.inner, append([]apdu.Entry{{Command: proof}}, es...))
	if len(rs) > 0 && rs[0].SW == apdu.SWSuccess {
		return rs[1:], err
	}
	s.end()
	if len(rs) > 0 {
		err = fmt.Errorf("%w: %w", ErrNotAccepted, rs[0].Check(proof))
	} else if err == nil {
		err = errors.New("no answer")
	}
	return nil, fmt.Errorf("EXTERNAL AUTHENTICATE: %w", err)
}

// checkKeys refuses session keys of lengths that the protocol does not have.
func checkKeys(p Protocol, l Level, k SessionKeys) error {
	fits := func(n int) bool { return n == 16 || p == SCP03 && (n == 24 || n == 32) }
	if !fits(k.ENC.Len()) || !fits(k.MAC.Len()) || l&RMAC != 0 && !fits(k.RMAC.Len()) {
		return fmt.Errorf("session keys of %d, %d and %d bytes", k.ENC.Len(), k.MAC.Len(), k.RMAC.Len())
	}
	return nil
}
