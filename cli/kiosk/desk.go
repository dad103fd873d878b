package kiosk

import (
	"slices"
	"strings"
	"time"

	"inkan/pcsc"
)

// desk is the kiosk without its terminal, readers and server: all readers, which
// of them gets the keys, and whether it is time to leave. update takes what
// happens and returns what is to be done; it does neither itself and never waits.
type desk struct {
	slots   []*slot
	focus   int
	cut     memory
	jobs    int // numbers given out
	turns   int // order in which slots began to wait
	now     func() time.Time
	trouble string // why there are no readers
	leaving leaving
	yes     bool
}

// leaving is how far the kiosk is with its own end.
type leaving int

const (
	staying leaving = iota
	unsure          // operations run: shall they be stopped?
	ending          // they are being stopped
)

func newDesk(now func() time.Time) *desk { return &desk{cut: memory{}, now: now} }

func (d *desk) newJob() int {
	d.jobs++
	return d.jobs
}

// update takes an event.
func (d *desk) update(e any) []any {
	before := d.focused()
	held := before != nil && before.holdsFocus()
	todo := d.take(e)
	d.tidy()
	if f := d.focused(); d.queue() || held && f == before || f == nil {
		d.direct()
	}
	if d.leaving == ending && !d.busy() {
		return append(todo, leave{})
	}
	return todo
}

func (d *desk) take(e any) []any {
	switch e := e.(type) {
	case readerEvent:
		return d.reader(e.Event)
	case serviceLost:
		d.trouble = serviceText(e.err)
	case described:
		if s := d.of(e.job); s != nil {
			return s.described(e, d.now())
		}
	case loginAsked:
		if s := d.of(e.job); s != nil {
			return s.ask(loginForm(e.form, s.known))
		}
	case pinAsked:
		if s := d.of(e.job); s != nil {
			return s.ask(pinForm(e.min, e.max, s.pins > 0))
		}
	case unasked:
		if s := d.of(e.job); s != nil {
			s.forget()
		}
	case progressed:
		if s := d.of(e.job); s != nil {
			s.progressed(e)
		}
	case ended:
		if s := d.of(e.job); s != nil {
			return s.ended(e.err)
		}
	case Key:
		return d.key(e)
	case interrupted:
		return d.end()
	case patienceEnded:
		return []any{leave{}}
	}
	return nil
}

// of is the slot that runs a job.
func (d *desk) of(job int) *slot {
	i := slices.IndexFunc(d.slots, func(s *slot) bool { return s.job == job && job != 0 })
	if i < 0 {
		return nil
	}
	return d.slots[i]
}

func (d *desk) busy() bool { return slices.ContainsFunc(d.slots, (*slot).busy) }

// reader takes news of a reader. One that is gone keeps its place as long as an
// operation has not ended in it.
func (d *desk) reader(e pcsc.Event) []any {
	d.trouble = ""
	i := slices.IndexFunc(d.slots, func(s *slot) bool { return s.name == e.Reader })
	if i < 0 {
		if e.Kind == pcsc.ReaderRemoved || e.Kind == pcsc.CardRemoved {
			return nil
		}
		d.add(e.Reader)
		i = slices.IndexFunc(d.slots, func(s *slot) bool { return s.name == e.Reader })
	}
	s := d.slots[i]
	if e.Kind == pcsc.ReaderAdded {
		s.gone = false
		return nil
	}
	return s.reader(e.Kind)
}

// tidy takes away the readers that are unplugged and have nothing more to tell.
func (d *desk) tidy() {
	for i := len(d.slots) - 1; i >= 0; i-- {
		if s := d.slots[i]; s.gone && !s.busy() && !s.note.bad {
			d.remove(i)
		}
	}
}

// add makes a place for a reader, in the order of names, and leaves the focus on
// the reader that has it.
func (d *desk) add(name string) {
	at, _ := slices.BinarySearchFunc(d.slots, name, func(s *slot, n string) int { return strings.Compare(s.name, n) })
	d.slots = slices.Insert(d.slots, at, &slot{name: name, desk: d})
	if at <= d.focus && len(d.slots) > 1 {
		d.focus++
	}
}

func (d *desk) remove(i int) {
	d.slots[i].forget()
	d.slots = slices.Delete(d.slots, i, i+1)
	if d.focus > i || d.focus == len(d.slots) {
		d.focus = max(0, d.focus-1)
	}
}

// focused is the slot that gets the keys, nil if there is none.
func (d *desk) focused() *slot {
	if len(d.slots) == 0 {
		return nil
	}
	return d.slots[d.focus]
}

// queue gives numbers to the slots that wait for a person, and reports a new one.
func (d *desk) queue() (news bool) {
	for _, s := range d.slots {
		switch {
		case !s.needsPerson():
			s.waiting = 0
		case s.waiting == 0:
			d.turns++
			s.waiting, news = d.turns, true
		}
	}
	return news
}

// direct gives the focus to the slot that has waited longest for a person, unless
// the person is in the middle of something. It is called when a slot begins to
// wait and when the focused one is through, so that a reader that the person goes
// to keeps the focus.
func (d *desk) direct() {
	if f := d.focused(); f == nil || f.holdsFocus() {
		return
	}
	next := -1
	for i, s := range d.slots {
		if s.waiting > 0 && (next < 0 || s.waiting < d.slots[next].waiting) {
			next = i
		}
	}
	if next >= 0 {
		d.focus = next
	}
}

// key gives a key to whom it is for.
func (d *desk) key(k Key) []any {
	if d.leaving == unsure {
		switch decide(&d.yes, k) {
		case accepted:
			return d.end()
		case declined:
			d.leaving = staying
		}
		return nil
	}
	switch k.Name {
	case "ctrl+c":
		return d.quit()
	case "ctrl+n", "ctrl+right":
		d.move(1)
		return nil
	case "ctrl+p", "ctrl+left":
		d.move(-1)
		return nil
	}
	if i := functionKey(k.Name); i >= 0 {
		if i < len(d.slots) {
			d.focus = i
		}
		return nil
	}
	s := d.focused()
	if s == nil {
		return nil
	}
	if s.form == nil || s.asks {
		switch k.Name {
		case "tab":
			d.move(1)
			return nil
		case "shift+tab":
			d.move(-1)
			return nil
		}
	}
	return s.key(k)
}

// functionKey is 0 for f1 and so on, -1 for other keys.
func functionKey(name string) int {
	if len(name) == 2 && name[0] == 'f' && name[1] >= '1' && name[1] <= '9' {
		return int(name[1] - '1')
	}
	return -1
}

func (d *desk) move(by int) {
	if n := len(d.slots); n > 0 {
		d.focus = (d.focus + by + n) % n
	}
}

// quit leaves, or asks where something runs.
func (d *desk) quit() []any {
	switch {
	case d.leaving == ending:
		return nil
	case d.busy():
		d.leaving, d.yes = unsure, false
		return nil
	}
	return d.end()
}

// end stops everything that runs; the kiosk leaves when that has ended, or after
// a while.
func (d *desk) end() []any {
	if d.leaving == ending {
		return nil
	}
	d.leaving = ending
	var todo []any
	for _, s := range d.slots {
		if s.busy() {
			todo = append(todo, s.stop()...)
		} else {
			s.forget()
		}
	}
	return append(todo, wait{})
}

// active reports that something runs: the screen shows that it does.
func (d *desk) active() bool {
	return slices.ContainsFunc(d.slots, func(s *slot) bool { return s.job != 0 })
}
