// Package pkcs11 is an hsm.Vault and hsm.Signers over a PKCS #11 module: SoftHSM,
// a network HSM, a smart card of its own.
//
// [Open] takes a pkcs11: URI (RFC 7512), logs in, and finds out by known answers
// which mechanisms the token has in truth; what it lists is only a hint. Card
// keys stay objects of the token wherever it can do so; [Token.Level] says how far
// that goes (hsm.md §9). Sessions come from a bounded pool. A token that was
// pulled, a module that lost its network and sessions that died are recovered
// from: calls fail with hsm.ErrUnavailable meanwhile, never with a wrong answer.
// A rejected PIN is never tried again.
//
// The module is a C library: this package needs cgo, and a Unix system. Other
// builds have an Open that says so. A token that refuses C_CreateObject of secret
// keys (FIPS 140 level 3) gets them by C_UnwrapKey, under a key that it made.
//
// A Token is safe for concurrent use. Each Work occupies a session; a goroutine
// should not open a second one while it holds one.
package pkcs11

import (
	"log/slog"
	"time"

	"inkan/apdu/secret"
)

// Config says which token, and how to treat it. URI is required.
type Config struct {
	URI URI
	// PIN logs in where the URI has no pin-source. It is not retained: copied.
	PIN secret.Secret
	// Sessions bounds the sessions in use at once; 0: twice the processors, or
	// what the token permits.
	Sessions int
	// OpTimeout bounds one call into the module; 0: 10 s. A call cannot be
	// cancelled: beyond the limit its session is given up.
	OpTimeout time.Duration
	// RecycleAfter restarts the module after so many session objects, against
	// leaks in it; 0: 2 000 000 for SoftHSM, else never. Negative: never.
	RecycleAfter int64
	// Log takes reconnects and the strategies in force; nil: discarded.
	Log *slog.Logger
}

// Info describes an open token to an operator.
type Info struct {
	Module   string // path
	Library  string // what the module calls itself
	Token    string // label
	Serial   string
	Model    string
	Firmware string
	// Strategies says for each operation which mechanism does it, or why none can.
	Strategies map[string]string
}
