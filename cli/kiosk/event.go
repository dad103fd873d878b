package kiosk

import (
	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// What happens at the desk. The shell turns all that comes from readers, servers
// and the keyboard into these, one at a time.
type (
	// readerEvent is news of a reader or of the card in it.
	readerEvent struct{ pcsc.Event }
	// serviceLost says that no reader can be reached now.
	serviceLost struct{ err error }
	// described ends a look at a card.
	described struct {
		job     int
		info    station.Info
		damaged bool // it answers, but what it carries cannot be read
		err     error
	}
	// loginAsked is the server asking who somebody is.
	loginAsked struct {
		job  int
		form auth.Form
	}
	// pinAsked is the server asking for a new PIN of min to max bytes.
	pinAsked struct{ job, min, max int }
	// unasked takes the last question back: nobody waits for the answer.
	unasked struct{ job int }
	// progressed is the server telling how far it is.
	progressed struct {
		job, percent int
		task         string // as the server names it
	}
	// ended is the end of an operation.
	ended struct {
		job int
		err error
	}
	// Key is a key that was pressed, or text that was pasted.
	Key struct {
		Name string // enter, tab, ctrl+n, …; "" for a character
		Text []byte
	}
	// told to end by the system
	interrupted struct{}
	// patienceEnded is the answer to wait.
	patienceEnded struct{}
)

// What is to be done. The shell does it and reports with events.
type (
	// look reads what the card in a reader shows.
	look struct {
		job    int
		reader string
	}
	// operate runs an operation with the server.
	operate struct {
		job    int
		reader string
		cuid   string // the card it is meant for
		op     wire.Operation
		resume bool
	}
	// logIn and setPIN answer a question; whoever takes them wipes them.
	logIn struct {
		job     int
		answers auth.Answers
	}
	setPIN struct {
		job int
		pin secret.PIN
	}
	// cancel ends an operation between two commands to the card.
	cancel struct{ job int }
	// wait has patienceEnded come after the time that operations get to end.
	wait struct{}
	// leave ends the kiosk.
	leave struct{}
)
