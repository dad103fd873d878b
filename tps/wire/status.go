package wire

import (
	"errors"
	"fmt"
	"strings"
)

// Status codes that this package itself gives (§9).
const (
	statusInternal      = 1
	statusSetPIN        = 4
	statusCannotPerform = 8
	statusLogin         = 14
	statusConnLost      = 28
	statusHTTPClient    = 47
)

// CardSafety says what a failed operation means for the card.
type CardSafety uint8

// Card safety. The zero value is not a valid one.
const (
	CardUnchanged CardSafety = iota + 1 // nothing was written
	CardResumable                       // perhaps half-written; the next operation finishes it or rolls it back
	CardUsable                          // complete; only something around it went wrong
	CardRefused                         // it is not to be used any more
)

var safetyText = [...]string{
	CardUnchanged: "the card was not changed",
	CardResumable: "the card may be half written but is not lost: the next operation finishes it or rolls it back",
	CardUsable:    "the card itself is in order",
	CardRefused:   "this card may not be used any more",
}

// String is a clause about the card.
func (c CardSafety) String() string {
	if c >= CardUnchanged && int(c) < len(safetyText) {
		return safetyText[c]
	}
	return "the state of the card is not known"
}

// Explanation tells a person what a status code means: what happened, whether the
// card is safe, what to do.
type Explanation struct {
	Status int
	Name   string // of the protocol description, without STATUS_
	What   string
	Card   CardSafety
	Do     string
}

// Explain returns the explanation of a status code; Name is empty if there is no
// such code.
func Explain(status int) Explanation {
	if status < 0 || status >= len(explanations) {
		return Explanation{Status: status, What: "the server gave a code that this program does not know",
			Do: "note the code and ask the help desk"}
	}
	e := explanations[status]
	e.Status = status
	return e
}

// EndError is an operation that did not succeed, as the client half reports it.
// Its text says what happened, whether the card is safe and what to do.
type EndError struct {
	Operation Operation
	Status    int // code of §9, never 0
	DryRun    bool
	// Err is what went wrong on this side; nil where the server said it in END_OP.
	Err error
}

// Explain is [Explain] for this end: a dry run changes no card.
func (e *EndError) Explain() Explanation {
	x := Explain(e.Status)
	if e.DryRun && x.Card == CardResumable {
		x.Card = CardUnchanged
	}
	if errors.Is(e.Err, ErrNoDryRun) || errors.Is(e.Err, ErrDryRun) {
		x.Do = "have the server updated first"
	}
	return x
}

// Error implements error.
func (e *EndError) Error() string {
	x := e.Explain()
	var b strings.Builder
	if e.DryRun {
		b.WriteString("dry run of ")
	}
	fmt.Fprintf(&b, "%v failed (status %d): ", e.Operation, e.Status)
	if e.Err != nil {
		fmt.Fprintf(&b, "%v; ", e.Err)
	} else {
		fmt.Fprintf(&b, "%s; ", x.What)
	}
	fmt.Fprintf(&b, "%v; %s", x.Card, x.Do)
	return b.String()
}

// Unwrap returns Err.
func (e *EndError) Unwrap() error { return e.Err }
