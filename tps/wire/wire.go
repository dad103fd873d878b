// Package wire is the client protocol of a token processing system: one HTTP/1.1
// exchange whose request and response bodies are open-ended chunked streams of
// small name=value messages in strict alternation. The client relays APDUs and
// asks the person; all logic is on the server.
//
// It holds both halves. [NewHandler] serves it: each operation gets a [Session],
// which is an apdu.Card plus three questions. [Run] is the client: it joins a
// card in a reader and a [Prompter] to a server. Between them stands the message
// codec ([Reader], [Encode]).
//
// The protocol is the one that Dogtag TPS speaks with ESC and tpsclient; its
// quirks, and which of them are kept, are listed in the protocol description
// (tps-protocol.md, cited here as §n). Not supported: SecurID and challenge
// questions (messages 5 to 8), which no server of this kind sends.
//
// Passwords and PINs are secrets and never printed; messages print without their
// contents. A Session serves one goroutine at a time; a Handler and a Client any
// number.
package wire

import (
	"errors"
	"strconv"
)

// Operation is the operation code of BEGIN_OP and END_OP (§5). The zero value is
// no operation and is never run.
type Operation int

// Operations. KeyChangeover is ours; no Dogtag client sends it.
const (
	Enroll        Operation = 1
	Unblock       Operation = 2
	ResetPIN      Operation = 3
	Renew         Operation = 4
	Format        Operation = 5
	KeyChangeover Operation = 6
)

var operationNames = [...]string{
	Enroll: "enroll", Unblock: "unblock", ResetPIN: "reset-pin",
	Renew: "renew", Format: "format", KeyChangeover: "rekey",
}

// Valid reports whether o is one of the six operations.
func (o Operation) Valid() bool { return o >= Enroll && o <= KeyChangeover }

// String is the operation's name, or its number if it has none.
func (o Operation) String() string {
	if o.Valid() {
		return operationNames[o]
	}
	return "operation " + strconv.Itoa(int(o))
}

// Errors that callers branch on.
var (
	// ErrClientGone says that the conversation with a client is over before its
	// end: connection lost, no answer in time, or an answer that is not in the
	// protocol (then also ErrProtocol). Every later call of the Session returns it.
	ErrClientGone = errors.New("the client is gone")
	// ErrProtocol is a message that breaks the protocol. It never holds contents.
	ErrProtocol = errors.New("protocol error")
	// ErrShutdown is the cause of the context's end when the server stops.
	ErrShutdown = errors.New("the server is shutting down")
	// ErrPIN is a PIN that the protocol or a card cannot carry; it may be asked
	// for again.
	ErrPIN = errors.New("unusable PIN")
)
