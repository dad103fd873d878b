package kiosk

import "strings"

// key takes a key that was pressed while the slot has the focus.
func (s *slot) key(k Key) []any {
	switch s.stage {
	case vacant, stuck, done:
		if k.Name != "enter" {
			return nil
		}
		if s.note = (note{}); s.present && s.job == 0 {
			return s.look()
		}
	case choosing:
		return s.choose(k)
	case asking:
		return s.answer(k)
	case working:
		return s.work(k)
	}
	return nil
}

// choose moves in the list of what can be done.
func (s *slot) choose(k Key) []any {
	n := len(s.card.offers)
	switch k.Name {
	case "up":
		s.cursor = (s.cursor + n - 1) % n
	case "down":
		s.cursor = (s.cursor + 1) % n
	case "esc":
		s.note = note{}
	case "enter":
		s.note = note{}
		if s.card.offers[s.cursor].ask != "" {
			s.stage, s.yes = asking, false
			return nil
		}
		return s.begin()
	}
	return nil
}

// answer is the answer to: this will be lost, really?
func (s *slot) answer(k Key) []any {
	switch s.decide(k) {
	case accepted:
		return s.begin()
	case declined:
		s.stage = choosing
	}
	return nil
}

// decision is how a question with yes and no was answered.
type decision int

const (
	undecided decision = iota
	declined
	accepted
)

// decide moves between no, which is where it begins, and yes.
func (s *slot) decide(k Key) decision { return decide(&s.yes, k) }

func decide(yes *bool, k Key) decision {
	switch {
	case k.Name == "left", k.Name == "right", k.Name == "up", k.Name == "down":
		*yes = !*yes
	case k.Name == "esc", strings.EqualFold(string(k.Text), "n"), k.Name == "enter" && !*yes:
		return declined
	case strings.EqualFold(string(k.Text), "y"), k.Name == "enter":
		return accepted
	}
	return undecided
}

// begin starts the operation that was chosen.
func (s *slot) begin() []any {
	o := s.card.offers[s.cursor]
	s.stage, s.op, s.job = working, o.op, s.desk.newJob()
	s.percent, s.task, s.form, s.known, s.pins = 0, "", nil, nil, 0
	s.touched, s.written, s.told, s.pulled, s.stopped, s.asks = false, false, false, false, false, false
	return []any{operate{job: s.job, reader: s.name, cuid: s.cuid, op: o.op, resume: o.resume}}
}

// work takes keys while an operation runs.
func (s *slot) work(k Key) []any {
	switch {
	case s.pulled || s.stopped: // it is ending
		return nil
	case s.asks:
		switch s.decide(k) {
		case accepted:
			return s.stop()
		case declined:
			s.asks = false
		}
	case s.form != nil && k.Name == "esc":
		return s.stop()
	case s.form != nil:
		if s.form.key(k) {
			return s.submit()
		}
	case k.Name == "esc":
		s.asks, s.yes = true, false
	}
	return nil
}

// stop ends the operation where that does no harm.
func (s *slot) stop() []any {
	s.stopped, s.asks = true, false
	s.forget()
	return []any{cancel{s.job}}
}

// submit answers the server's question.
func (s *slot) submit() []any {
	f := s.form
	s.form, s.told = nil, false
	defer f.wipe()
	if f.isPIN() {
		s.pins++
		s.touched = true
		return []any{setPIN{s.job, f.pin()}}
	}
	s.known = map[string][]byte{}
	for _, in := range f.fields {
		if !in.secret {
			s.known[in.id] = append([]byte(nil), in.text...)
		}
	}
	return []any{logIn{s.job, f.answers()}}
}
