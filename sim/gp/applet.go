package gp

import (
	"io"

	"inkan/apdu"
	"inkan/securechannel"
)

// Applet is the behaviour of an application installed on the software card. One
// goroutine at a time calls it.
type Applet interface {
	// Select runs when the application has become the selected one; its answer
	// is the answer to SELECT.
	Select(env Env) apdu.Response
	// Deselect runs before another application (or the same again) is selected.
	Deselect(env Env)
	// Reset runs at power-on and reset: what is volatile is gone.
	Reset()
	// Process runs one command addressed to the selected application, other than
	// SELECT, INITIALIZE UPDATE and EXTERNAL AUTHENTICATE, which the runtime
	// answers. A command with secure messaging arrives unwrapped, CLA as sent
	// (84), with Env.Level telling the level it was verified under.
	Process(env Env, cmd apdu.Command) apdu.Response
	// AcceptsLevel reports whether the application opens a channel of level l.
	AcceptsLevel(l securechannel.Level) bool
	// Save returns the persistent state, Load restores what Save returned. The
	// runtime saves after every command that called Env.Touch, before the answer
	// leaves the card, atomically with its own state.
	Save() ([]byte, error)
	Load([]byte) error
}

// Env is what the runtime lends an applet while a command runs.
type Env interface {
	// Level is the security level of the command that is running: -1 for a
	// command without secure messaging.
	Level() int
	// Unwrap decrypts 8n (DES) or 16n (AES) bytes with the data encryption key of
	// the open channel: SCP01/03 static DEK, SCP02 session DEK; 3DES-ECB or
	// AES-CBC with zero IV. False without an open channel or for a wrong length.
	Unwrap(ciphertext []byte) ([]byte, bool)
	// Rand is the card's random generator.
	Rand() io.Reader
	// GenerateRSA and GenerateEC make key pairs, from the card's key pool in tests.
	Keys() KeyMaker
	// AID is the instance's AID.
	AID() apdu.AID
	// LifeCycle is the application's life cycle byte; SetLifeCycle stores a new
	// one and returns false where the runtime refuses it.
	LifeCycle() byte
	SetLifeCycle(b byte) bool
	// Touch marks persistent state as changed.
	Touch()
	// Commit makes what has changed durable at once, in the middle of a command.
	// After an error nothing may depend on the change.
	Commit() error
}

// Factory makes an applet when INSTALL [for install] runs, and again when an
// image is opened (then Load follows). params is the value of tag C9, code the
// load file as it was loaded (components concatenated, without the C4 header),
// from which an applet may take its version.
type Factory func(instance apdu.AID, params, code []byte) (Applet, error)
