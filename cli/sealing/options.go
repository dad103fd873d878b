package sealing

import (
	"log/slog"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/seal"
)

// Options are what Open cannot read from the folder. The zero value is usable.
type Options struct {
	Log *slog.Logger // nil = discard
	// Passphrase of the key file, asked for when there is no file passphrase in
	// the folder; nil = that is an error.
	Passphrase func() (secret.Secret, error)
	// PIN asks for the PIN or passphrase of the sealing key; nil = that is an error.
	PIN func(what string) (secret.Secret, error)
	// Recovery asks for the recovery passphrase where one is a key slot of what is
	// written; nil = that is an error.
	Recovery func() (secret.Secret, error)
	// RecoveryCost of that passphrase; nil = the default. Tests take less.
	RecoveryCost *seal.Cost
	// WaitHSM is how long to wait for an HSM that does not answer at the start.
	WaitHSM time.Duration
	Program string // version, for sealed files
	// Step, if not nil, is told of each durable step of a change of sealed files
	// before it is taken. Tests end the process in it.
	Step func(r seal.Role, step string)
}

// Complete fills in a logger and a step that do nothing.
func (o Options) Complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(seal.Role, string) {}
	}
	return o
}
