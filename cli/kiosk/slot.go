package kiosk

import (
	"time"

	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/wire"
)

// stage is where a reader and its card are.
type stage int

const (
	vacant   stage = iota // no card: ready for one
	reading               // the card is being looked at
	stuck                 // nothing can be done with this card
	choosing              // what shall be done?
	asking                // it would lose something: really?
	working               // an operation runs; perhaps the server asks something
	done                  // the card may be taken out
)

// memory is what the desk knows of cards beyond one insertion: operations that
// were cut here, by CUID.
type memory map[string]wire.Operation

// slot is one reader and what is going on in it. Its methods take one event each
// and return what is to be done; nothing here touches a card, a server or a terminal.
type slot struct {
	name string
	desk *desk

	stage   stage
	present bool // a card is in the reader
	gone    bool // the reader is unplugged, and something runs on
	job     int  // what runs for this reader, 0 = nothing
	stale   bool // the card that the job looks at has left

	card   portrait
	cuid   string
	cursor int  // in card.offers
	yes    bool // of a question: the answer that Enter gives

	op      wire.Operation
	percent int
	task    string
	form    *form             // what the server asks
	known   map[string][]byte // answers that need no secrecy, for a second attempt
	pins    int               // how often a PIN was asked for
	written bool              // the server has reported that it writes to the card
	touched bool              // the card may have been changed by the operation
	told    bool              // the server has reported progress since the last answer
	pulled  bool              // the card left while the operation ran
	stopped bool              // the person stopped it
	asks    bool              // shall it be stopped?

	note    note
	waiting int // since when the slot waits for a person, 0 = it does not
}

// needsPerson reports that nothing goes on without an answer.
func (s *slot) needsPerson() bool {
	return s.stage == choosing || s.stage == asking || s.stage == working && (s.form != nil || s.asks)
}

// holdsFocus reports that the person is in the middle of something here: another
// reader must not get the keys.
func (s *slot) holdsFocus() bool {
	return s.needsPerson() || s.stage == working && !s.told && !s.pulled
}

// busy reports an operation that must not be cut.
func (s *slot) busy() bool { return s.stage == working }

// reader takes news of the reader.
func (s *slot) reader(k pcsc.EventKind) []any {
	switch k {
	case pcsc.CardInserted:
		return s.inserted()
	case pcsc.CardMute:
		if s.present = true; s.job == 0 {
			s.stage, s.note = stuck, note{muteText, true}
		}
	case pcsc.CardRemoved, pcsc.ReaderRemoved:
		return s.removed(k == pcsc.ReaderRemoved)
	}
	return nil
}

func (s *slot) inserted() []any {
	s.present, s.gone = true, false
	if s.job != 0 { // what runs belongs to the card before; its end comes first
		return nil
	}
	s.note = note{}
	return s.look()
}

// look begins to read the card that is in the reader.
func (s *slot) look() []any {
	s.stage, s.card, s.cuid = reading, portrait{}, ""
	return s.lookAgain()
}

// lookAgain reads the card and leaves what the screen says of it until that is done.
func (s *slot) lookAgain() []any {
	s.stale, s.job = false, s.desk.newJob()
	return []any{look{job: s.job, reader: s.name}}
}

func (s *slot) removed(reader bool) []any {
	s.present, s.gone = false, reader
	s.stale = s.job != 0
	switch s.stage {
	case working:
		s.pulled, s.asks = true, false
		s.forget()
		return []any{cancel{s.job}}
	case done:
		s.note = note{text: finished(s.op)}
	case choosing, asking:
		s.note = note{text: "The card was not changed."}
	case stuck:
		s.note = note{}
	}
	s.stage, s.card = vacant, portrait{}
	return nil
}

// forget wipes what was typed.
func (s *slot) forget() {
	if s.form != nil {
		s.form.wipe()
		s.form = nil
	}
}

// described takes the end of a look at the card.
func (s *slot) described(e described, now time.Time) []any {
	s.job = 0
	if s.stale || !s.present {
		if s.present {
			return s.look()
		}
		s.stage = vacant
		return nil
	}
	if s.stage == done { // the operation's card, as it is now
		if e.err == nil {
			s.card = portray(sight{Info: e.info, damaged: e.damaged}, now)
		}
		return nil
	}
	if e.err != nil {
		s.unreadable(e.err)
		return nil
	}
	s.cuid, s.cursor = e.info.CUID, 0
	s.card = portray(sight{e.info, e.damaged, s.desk.cut[s.cuid]}, now)
	if s.stage = choosing; s.card.wrong != "" {
		s.stage, s.note = stuck, note{s.card.wrong, true}
	}
	return nil
}

// unreadable takes an error of a look. Where the card has left, what was told before
// is what matters.
func (s *slot) unreadable(err error) {
	if s.stage = stuck; isGone(err) {
		s.stage = vacant
	}
	if s.stage == stuck || s.note.text == "" {
		s.note = note{unreadable(err), true}
	}
}

// ask takes a question of the server.
func (s *slot) ask(f *form) []any {
	s.forget()
	if s.pulled || s.stopped { // nobody answers any more
		return []any{cancel{s.job}}
	}
	s.form, s.touched = f, s.written // a PIN that is asked for again was not set
	return nil
}

func (s *slot) progressed(e progressed) {
	s.percent, s.task, s.told = e.percent, station.Task(e.task), true
	switch s.task {
	case station.Task("ask-pin"), station.Task("PROGRESS_PROCESS_PROFILE"):
	default:
		s.written, s.touched = true, true
	}
}

// ended takes the end of the operation.
func (s *slot) ended(err error) []any {
	s.forget()
	for _, b := range s.known {
		clear(b)
	}
	s.job, s.known, s.asks = 0, nil, false
	if err == nil {
		delete(s.desk.cut, s.cuid)
		return s.succeeded()
	}
	if s.touched && resumable(err) {
		s.desk.cut[s.cuid] = s.op
	}
	s.note, s.stage, s.card = s.ending(err), vacant, portrait{}
	if s.present && s.desk.leaving == staying { // it may be another card, or show something else now
		return s.look()
	}
	return nil
}

func (s *slot) succeeded() []any {
	s.stage, s.note = done, note{}
	switch {
	case s.desk.leaving != staying:
		return nil
	case s.pulled && s.present: // the next card is in the reader already
		s.note = note{text: finished(s.op)}
		return s.look()
	case s.present:
		return s.lookAgain()
	}
	s.stage, s.card, s.note = vacant, portrait{}, note{text: finished(s.op)}
	return nil
}
