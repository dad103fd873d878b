// Package securechannel opens and runs GlobalPlatform secure channels.
//
// [Open] sends INITIALIZE UPDATE and EXTERNAL AUTHENTICATE through an
// apdu.Doer and returns a [Session], itself an apdu.Doer and apdu.Batcher that
// wraps what passes through it. Where session keys come from is the caller's
// [KeySource]; the package knows no key service. [CardSession] is the other
// end, for software cards; both ends are built from the same pure functions of
// scp01, scp02 and scp03.
//
// Implemented: SCP01 (i=05, 15; short length), SCP02 explicit with three keys (i=05, 15, 45, 55, each also with
// R-MAC, +20), SCP03 (i=00 to 71, S8 and S16), short and extended length. See
// GlobalPlatform Card Specification 2.3.1 chapter 10 and appendices D and E of
// 2.2.1, Amendment D. Implicit SCP02 and the commands BEGIN and END R-MAC SESSION
// are not supported; what is not is refused by name (apdu.ErrUnsupported).
//
// A Session serialises its callers; a CardSession serves one goroutine.
package securechannel

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
)

// Protocol is a secure channel protocol identifier.
type Protocol uint8

// Protocols.
const (
	SCP01 Protocol = 1
	SCP02 Protocol = 2
	SCP03 Protocol = 3
)

// String is SCP01, SCP02 or SCP03.
func (p Protocol) String() string { return fmt.Sprintf("SCP%02d", uint8(p)) }

// Option is the implementation option "i" of a protocol.
type Option uint8

// String is two hexadecimal digits.
func (o Option) String() string { return fmt.Sprintf("%02X", uint8(o)) }

// Level is a security level as P1 of EXTERNAL AUTHENTICATE carries it.
type Level uint8

// Bits of a level, and the levels in use.
const (
	CMAC Level = 0x01
	CDEC Level = 0x02
	RMAC Level = 0x10
	RENC Level = 0x20

	LevelAuthenticated Level = 0x00
	LevelCMAC          Level = CMAC
	LevelCENC          Level = CMAC | CDEC
	LevelCMACRMAC      Level = CMAC | RMAC
	LevelCENCRMAC      Level = CMAC | CDEC | RMAC
	LevelFull          Level = CMAC | CDEC | RMAC | RENC
)

// String is two hexadecimal digits, as P1 of EXTERNAL AUTHENTICATE has them.
func (l Level) String() string { return fmt.Sprintf("%02X", uint8(l)) }

// HostChallenge, CardChallenge, CardCryptogram and SequenceCounter are the
// values of a channel's opening, 8 bytes (S16: 16); the challenge of an SCP02
// card 6. Counter is 2 bytes for SCP02, 3 for SCP03 with i bit 10, else empty.
type (
	HostChallenge   []byte
	CardChallenge   []byte
	CardCryptogram  []byte
	SequenceCounter []byte
)

// InitUpdate is what an INITIALIZE UPDATE exchange said: all a key service
// needs to derive the session keys and to check that the card proved itself.
type InitUpdate struct {
	KDD            gp.KDD
	KeyVersion     gp.KeyVersion // as the card answered
	Protocol       Protocol
	Option         Option // from the answer (SCP03) or from the request's hint
	KeyIndex       uint8  // SCP01 only; 01 where the card names the protocol instead
	Counter        SequenceCounter
	HostChallenge  HostChallenge
	CardChallenge  CardChallenge
	CardCryptogram CardCryptogram
}

// SessionKeys are the keys of one session. RMAC is empty where the channel has none.
type SessionKeys struct {
	ENC, MAC, RMAC secret.Secret
}

// Wipe overwrites the three keys.
func (k SessionKeys) Wipe() {
	k.ENC.Wipe()
	k.MAC.Wipe()
	k.RMAC.Wipe()
}

// KeySource turns the card's answer into session keys. It is called once per
// Open, after INITIALIZE UPDATE. It must have verified the card cryptogram; the
// session verifies it again. The keys it returns belong to the session, which
// wipes them.
type KeySource func(ctx context.Context, iu InitUpdate) (SessionKeys, error)

// Request says how a channel is to be opened.
type Request struct {
	KeyVersion    gp.KeyVersion // P1; 00 = the card's default
	KeyIndex      uint8         // P2; SCP01 only
	HostChallenge HostChallenge // 8 bytes; 16 for S16. Required
	Level         Level
	// Choose, if set, picks the level from the card's answer (Level is then ignored).
	Choose func(InitUpdate) Level
	// Hint is the protocol and option of the card recognition data, for cards
	// whose answer does not name them: the protocol of an Open Platform 2.0.1 card
	// (SCP01, where the answer has neither 02 nor 03), the option of SCP01 and
	// SCP02. Zero: SCP01 i=05, SCP02 i=15.
	HintProtocol Protocol
	HintOption   Option
	// Dialect names the card's deviations from the specifications.
	Dialect Dialect
	// Together lets EXTERNAL AUTHENTICATE travel with the session's first commands
	// instead of being sent by Open, where a round trip is dear. No other command
	// may come before those; [Session.Authenticate] sends it alone.
	Together bool
}

// Dialect is a set of deviations of cards that the host has to follow.
type Dialect uint8

// Deviations.
const (
	// EmptyField: an SCP01 or SCP02 card wants an encrypted block for a command
	// without data, as Dogtag sends it.
	EmptyField Dialect = 1 << iota
	// CounterWithDataOnly: an SCP03 card advances its encryption counter for
	// commands with data only.
	CounterWithDataOnly
	// NoLe: an SCP01 card takes no Le after a C-MAC. Its answers have data all the
	// same.
	NoLe

	longPadding Dialect = 1 << 7 // of cards alone: the host takes any padding
)

// ErrCryptogram means that the card did not prove knowledge of its keys: the
// keys used are not the card's, or it is not the card it claims to be. Nothing
// was sent to the card beyond INITIALIZE UPDATE.
var ErrCryptogram = errors.New("card cryptogram is wrong")

// ErrNotAccepted means that the card refused EXTERNAL AUTHENTICATE.
var ErrNotAccepted = errors.New("the card does not accept the host")

// ErrAborted means that the session is no longer usable: the card refused its
// secure messaging, or answered with secure messaging that does not verify.
var ErrAborted = errors.New("secure channel aborted")
