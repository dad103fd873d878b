// Package apdu holds the words of ISO 7816-4 (commands, responses, status
// words, application identifiers) and the two seams everything in Inkan that
// talks to a card is built on: [Card] carries bytes to a card, wherever that
// card is; [Doer] carries typed commands.
//
// Most callers wrap a Card in a [Conn] and pass that Conn around as a Doer.
//
// A Card serves one goroutine at a time and is closed by whoever opened it.
// Conn serialises its callers.
package apdu

import (
	"context"
	"errors"
)

// Card carries one command APDU to a card and its response APDU back, whole
// and unchanged: data, then SW1 SW2. The slice passed in is not retained; the
// slice returned belongs to the caller. A Card that knows that the card has
// left its reader returns an error that is [ErrCardRemoved].
//
// Optional methods, found by type assertion: ATR() ATR, Reset(context.Context)
// error and [FrameTransmitter].
type Card interface {
	Transmit(ctx context.Context, cmd []byte) ([]byte, error)
}

// Doer runs one typed command. A status word other than 9000 is not an error:
// it stands in Response.SW.
type Doer interface {
	Do(ctx context.Context, cmd Command) (Response, error)
}

// Mode says how one [Entry] of a list is to be treated.
type Mode uint8

// Mode bits.
const (
	Anyway Mode = 1 << iota // go on with the list whatever the status
	Plain                   // not wrapped, even inside a secure channel
)

// Entry is one command of a list run by [DoAll].
type Entry struct {
	Command
	Mode Mode
}

// Batcher is the optional ability of a Doer to run a list of commands in one
// go (one network round trip, wrapped ahead). The answers end at the first
// status other than 9000 of an entry without [Anyway]; that answer is included.
type Batcher interface {
	DoAll(ctx context.Context, es []Entry) ([]Response, error)
}

// Frame is one encoded command of a list that is sent to a card as a whole.
type Frame struct {
	Cmd    []byte
	Anyway bool // go on whatever the status
}

// FrameTransmitter is the optional ability of a Card to run several frames in
// order. The answers end as those of [Batcher] do. 61xx is resolved by the
// card's side; 6Cxx is an answer.
type FrameTransmitter interface {
	TransmitAll(ctx context.Context, frames []Frame) ([][]byte, error)
}

// Errors that callers branch on.
var (
	ErrCardRemoved = errors.New("card removed")
	ErrUnsupported = errors.New("not supported")
)
