package securechannel

import (
	"crypto/aes"
	"crypto/subtle"
	"errors"
	"io"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel/internal/class"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// CardConfig is what a [CardSession] needs to know of its card. KeySet is
// required. The functions are called while a command runs, never later.
type CardConfig struct {
	// KeySet finds the key set that INITIALIZE UPDATE names in P1; version 00
	// asks for the default set, and the answer's Version is the one reported.
	// False: the card answers 6A88.
	KeySet func(v gp.KeyVersion) (CardKeySet, bool)
	// KDD is the key diversification data.
	KDD gp.KDD
	// AID tells the AID that enters a pseudo-random card challenge: that of the
	// application in which the channel opens, or of the security domain it
	// delegates to. nil: the empty AID.
	AID func() apdu.AID
	// Accepts tells whether the selected application opens a channel of level l.
	// It is asked only for levels that the protocol's option permits. nil: all.
	Accepts func(l Level) bool
	// Rand is the source of random card challenges, crypto/rand if nil.
	Rand io.Reader
	// MACError is the status word for missing or wrong secure messaging; zero: 6982.
	MACError apdu.StatusWord
	// ErrorMAC makes an SCP02 card deliver the R-MAC with an error status too,
	// as some do.
	ErrorMAC bool
	// CounterWithDataOnly makes an SCP03 card advance its encryption counter for
	// commands with data only, as some do.
	CounterWithDataOnly bool
	// LongPadding makes an SCP03 card pad encrypted answers by a block too many, as
	// some do.
	LongPadding bool
}

// CardKeySet is one key set of the card. The keys are read while a session
// opens (DEK: while it is open) and neither changed nor wiped.
type CardKeySet struct {
	Version  gp.KeyVersion
	Protocol Protocol
	Option   Option
	ENC      secret.Secret
	MAC      secret.Secret
	DEK      secret.Secret
	// Counter is the stored sequence counter: 2 bytes for SCP02, 3 for SCP03
	// with option bit 10.
	Counter uint32
	// SetCounter stores a new value before it takes effect: SCP03 at each
	// INITIALIZE UPDATE, SCP02 when a host has authenticated. An error makes the
	// card answer 6581. nil: the counter is not kept.
	SetCounter func(uint32) error
}

// CardSession is the card's end of a secure channel, for software cards: one
// per logical channel. The runtime calls
//
//   - [CardSession.Terminate] on SELECT, reset, power loss and channel close;
//   - [CardSession.InitializeUpdate] and [CardSession.ExternalAuthenticate] for
//     these two commands, and their answers go out as they are;
//   - for every other command [CardSession.Unwrap], then the application, then
//     [CardSession.WrapResponse]. An application that takes some commands plain
//     inside a channel (the CoolKey applet its class B0) gets those without
//     either call: they do not touch the session.
//
// Splitting answers into 61xx parts comes after WrapResponse.
//
// A CardSession serves one goroutine at a time.
type CardSession struct {
	cfg    CardConfig
	state  cardState
	keys   CardKeySet  // of the pending or open session
	sess   SessionKeys // ENC, MAC, RMAC; owned
	sdek   secret.Secret
	iu     InitUpdate
	level  Level
	sm     messaging
	chain  chain
	resp   scp02.Chain
	answer *exchange // the command that WrapResponse answers
}

type cardState uint8

const (
	cardIdle    cardState = iota // no session: terminated, or never opened
	cardPending                  // INITIALIZE UPDATE answered
	cardOpen
	cardAborted // every command is refused until the session is terminated
)

// NewCard returns a CardSession without a session.
func NewCard(cfg CardConfig) *CardSession { return &CardSession{cfg: cfg} }

// Level is the level of the open session; false without one.
func (s *CardSession) Level() (Level, bool) { return s.level, s.state == cardOpen }

// KeyVersion is the key set that the open session was opened with; false
// without a session.
func (s *CardSession) KeyVersion() (gp.KeyVersion, bool) {
	return s.keys.Version, s.state == cardOpen
}

// MaxResponse is the largest plain response data that still fits a short
// response when wrapped; 256 without an open session.
func (s *CardSession) MaxResponse() int {
	if s.state != cardOpen {
		return apdu.MaxShortNe
	}
	n := MaxResponseData(s.keys.Protocol, s.keys.Option, s.level)
	if s.cfg.LongPadding && s.keys.Protocol == SCP03 && s.level&RENC != 0 {
		n -= aes.BlockSize
	}
	return n
}

// Terminate ends the session, whatever its state: commands are then processed
// without secure messaging.
func (s *CardSession) Terminate() {
	s.drop()
	s.state = cardIdle
}

// abort ends the session in a way that only Terminate clears.
func (s *CardSession) abort() {
	s.drop()
	s.state = cardAborted
}

func (s *CardSession) drop() {
	s.sess.Wipe()
	s.sdek.Wipe()
	*s = CardSession{cfg: s.cfg}
}

// Unwrap checks a command against the session. With status 9000 the plain
// command comes back for the application: without secure messaging bit, without
// MAC, decrypted. Any other status is the answer to the command.
//
// Inside a session with C-MAC a command without or with wrong secure messaging
// aborts the session, and from then on every command is refused until
// Terminate. Without a session a plain command comes back as it is, one with
// secure messaging is refused with 6985.
func (s *CardSession) Unwrap(cmd apdu.Command) (apdu.Command, apdu.StatusWord) {
	s.answer = nil
	switch s.state {
	case cardAborted:
		return apdu.Command{}, s.macError()
	case cardOpen:
	default:
		if class.Secured(cmd.CLA) {
			return apdu.Command{}, apdu.SWConditionsOfUse
		}
		return cmd, apdu.SWSuccess
	}
	plain, next, err := s.sm.unwrap(s.chain, cmd)
	if err != nil {
		s.abort()
		return apdu.Command{}, s.macError()
	}
	s.chain = next
	s.answer = &exchange{plain: plain, after: next}
	return plain, apdu.SWSuccess
}

// WrapResponse protects the answer to the command that Unwrap returned last. It
// does nothing to an answer that needs no protection, so it may be called for
// every command. Under an error status (any but 9000, 62xx, 63xx) the data are
// dropped where the level has R-MAC.
func (s *CardSession) WrapResponse(r apdu.Response) apdu.Response {
	x := s.answer
	s.answer = nil
	if s.state != cardOpen || x == nil || s.level&RMAC == 0 {
		return r
	}
	x.responses = s.resp
	out, next, err := s.sm.wrapResponse(*x, r)
	if err != nil {
		s.abort()
		return apdu.Response{SW: apdu.SWNoDiagnosis}
	}
	s.resp = next
	if r.SW != apdu.SWSuccess && !r.SW.IsWarning() && !s.cfg.ErrorMAC {
		out.Data = nil
	}
	return out
}

// DecryptDEK decrypts whole blocks with the data encryption key of the open
// session: SCP01 static DEK and SCP02 session DEK, 3DES-ECB; SCP03 static DEK,
// AES-CBC with zero IV. False without an open session and for a wrong length.
func (s *CardSession) DecryptDEK(ct []byte) ([]byte, bool) {
	if s.state != cardOpen {
		return nil, false
	}
	var plain []byte
	err := errors.ErrUnsupported
	switch s.keys.Protocol {
	case SCP01:
		plain, err = scp01.DecryptDEK(s.keys.DEK.Bytes(), ct)
	case SCP02:
		plain, err = scp02.DecryptDEK(s.sdek.Bytes(), ct)
	case SCP03:
		plain, err = scp03.DecryptDEK(s.keys.DEK.Bytes(), ct)
	}
	return plain, err == nil
}

func (s *CardSession) macError() apdu.StatusWord {
	if s.cfg.MACError != 0 {
		return s.cfg.MACError
	}
	return apdu.SWSecurityStatus
}

// equal compares two authentication values in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
