package kiosk

import (
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/wire"
)

// note is one thing to tell the person, below everything else of a reader.
type note struct {
	text string
	bad  bool
}

const notLost = "It is not lost: "

// isGone reports that no card is there any more.
func isGone(err error) bool {
	return errors.Is(err, apdu.ErrCardRemoved) || errors.Is(err, pcsc.ErrNoCard)
}

// unreadable says what to do about a card that could not be looked at.
func unreadable(err error) string {
	switch {
	case isGone(err):
		return "The card was gone before it could be read. Insert it again."
	case errors.Is(err, pcsc.ErrInUse):
		return "Another program is using this card. Close it, then press Enter."
	case errors.Is(err, pcsc.ErrReset):
		return "Another program disturbed the reading. Press Enter to read it again."
	case errors.Is(err, pcsc.ErrMute):
		return muteText
	}
	return "The card cannot be read. Take it out, look whether it is clean, and insert it again. Enter tries once more."
}

const muteText = "The card does not answer. Take it out and insert it with the chip in front and facing up."

// ending says how an operation failed: what happened, whether the card is safe and
// what to do. It is one sentence for each.
func (s *slot) ending(err error) note {
	var end *wire.EndError
	var unproved *station.NotProvedError
	status := 0
	if errors.As(err, &end) {
		status = end.Status
	}
	switch {
	case s.gone:
		return note{"The reader was unplugged. " + s.safe("Plug it in again and insert the card to finish.", "Plug it in again."), true}
	case errors.As(err, &unproved):
		return note{"The card is enrolled, but a try of its keys failed. Take it to those who give out the cards.", true}
	case errors.Is(err, station.ErrOtherCard):
		return note{"This is not the card that was here before. It was not changed.", true}
	case s.pulled, isGone(err):
		return note{"The card was taken out too early. " + s.safe("Insert it again to finish.", "Insert it again."), true}
	case s.stopped:
		return note{"Stopped. " + s.safe("Go on with it now or later.", ""), false}
	case errors.Is(err, pcsc.ErrInUse):
		return note{"Another program is using this card. Close it and try again.", true}
	case end == nil:
		return note{"The card cannot be reached. " + s.safe("Take it out and insert it again.", "Take it out and insert it again."), true}
	}
	return note{s.explain(status), true}
}

// safe says that the card was not changed, or not lost.
func (s *slot) safe(finish, again string) string {
	if s.touched {
		return notLost + lower(finish)
	}
	return sentences("The card was not changed.", again)
}

// explain is a status code in sentences.
func (s *slot) explain(status int) string {
	x := wire.Explain(status)
	card := x.Card.String()
	if x.Card == wire.CardResumable && !s.touched {
		card = wire.CardUnchanged.String()
	}
	return sentences(sentence(x.What), sentence(card), sentence(x.Do), fmt.Sprintf("(Code %d.)", status))
}

func sentences(all ...string) string {
	out := ""
	for _, s := range all {
		if s != "" && out != "" {
			out += " "
		}
		out += s
	}
	return out
}

func lower(s string) string {
	if s == "" {
		return ""
	}
	return string(s[0]|0x20) + s[1:]
}

// finished says that an operation is complete.
func finished(op wire.Operation) string {
	switch op {
	case wire.Format:
		return "The card is empty and ready to be enrolled."
	case wire.Enroll:
		return "The card is complete."
	case wire.Renew:
		return "The card has its new certificates."
	case wire.ResetPIN:
		return "The card has its new PIN."
	case wire.KeyChangeover:
		return "The card has its new keys."
	}
	return "Done."
}

// resumable reports a failure behind which the card may be half written.
func resumable(err error) bool {
	var unproved *station.NotProvedError
	if errors.As(err, &unproved) {
		return false
	}
	var end *wire.EndError
	return !errors.As(err, &end) || wire.Explain(end.Status).Card == wire.CardResumable
}

// serviceText says why no reader can be reached.
func serviceText(err error) string {
	return sentences("No card reader can be reached:", sentence(unwrapped(err)), "This screen goes on by itself as soon as there is one.")
}

// unwrapped is the innermost text of an error: what a person can do about it.
func unwrapped(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}
