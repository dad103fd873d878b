package kiosk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/auth"
)

// Bench is a desk without readers, cards and a server: the test plays them.
type Bench struct {
	desk    *desk
	running map[string]int // job by reader
	op      map[int]bool   // jobs that are operations
	Answers auth.Answers   // last login
	PIN     string         // last PIN
}

// NewBench is an empty desk at a fixed time.
func NewBench() *Bench {
	now := func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
	return &Bench{desk: newDesk(now), running: map[string]int{}, op: map[int]bool{}}
}

// do takes an event and says what the desk wants done.
func (b *Bench) do(e any) string {
	var out []string
	for _, todo := range b.desk.update(e) {
		out = append(out, b.tell(todo))
	}
	return strings.Join(out, ", ")
}

func (b *Bench) tell(todo any) string {
	switch e := todo.(type) {
	case look:
		b.running[e.reader] = e.job
		return "look " + e.reader
	case operate:
		b.running[e.reader], b.op[e.job] = e.job, true
		resume := ""
		if e.resume {
			resume = " resume"
		}
		return fmt.Sprintf("%v %s %s%s", e.op, e.reader, e.cuid, resume)
	case logIn:
		b.Answers = e.answers
		return "login"
	case setPIN:
		b.PIN = string(e.pin.Bytes())
		return "pin"
	case cancel:
		return "cancel"
	case wait:
		return "wait"
	case leave:
		return "leave"
	}
	return fmt.Sprintf("%T", todo)
}

// Reader reports news of a reader.
func (b *Bench) Reader(k pcsc.EventKind, reader string) string {
	return b.do(readerEvent{pcsc.Event{Kind: k, Reader: reader}})
}

// Insert adds a reader with a card.
func (b *Bench) Insert(reader string) string { return b.Reader(pcsc.CardInserted, reader) }

// Pull takes its card out.
func (b *Bench) Pull(reader string) string { return b.Reader(pcsc.CardRemoved, reader) }

// Shows ends the look at a card.
func (b *Bench) Shows(reader string, i station.Info) string {
	return b.do(described{job: b.running[reader], info: i})
}

// Damaged ends the look at a card whose content cannot be read.
func (b *Bench) Damaged(reader string, i station.Info) string {
	return b.do(described{job: b.running[reader], info: i, damaged: true})
}

// Fails ends the look at a card with an error.
func (b *Bench) Fails(reader string, err error) string {
	return b.do(described{job: b.running[reader], err: err})
}

// AsksLogin, AsksPIN, Withdraws, Tells and Ends are the server.
func (b *Bench) AsksLogin(reader string, f auth.Form) string {
	return b.do(loginAsked{b.running[reader], f})
}
func (b *Bench) AsksPIN(reader string, min, max int) string {
	return b.do(pinAsked{b.running[reader], min, max})
}
func (b *Bench) Withdraws(reader string) string { return b.do(unasked{b.running[reader]}) }
func (b *Bench) Tells(reader string, percent int, task string) string {
	return b.do(progressed{b.running[reader], percent, task})
}
func (b *Bench) Ends(reader string, err error) string { return b.do(ended{b.running[reader], err}) }

// ServiceLost, Interrupt and PatienceEnds are the system.
func (b *Bench) ServiceLost(err error) string { return b.do(serviceLost{err}) }
func (b *Bench) Interrupt() string            { return b.do(interrupted{}) }
func (b *Bench) PatienceEnds() string         { return b.do(patienceEnded{}) }

// Press presses keys by name; what has no name is typed.
func (b *Bench) Press(keys ...string) string {
	var out []string
	for _, k := range keys {
		e := Key{Text: []byte(k)}
		if slices.Contains([]string{"enter", "esc", "tab", "shift+tab", "up", "down", "left", "right", "backspace", "ctrl+u", "ctrl+c", "ctrl+n", "ctrl+p", "f1", "f2", "f3", "f9"}, k) {
			e = Key{Name: k}
		}
		if todo := b.do(e); todo != "" {
			out = append(out, todo)
		}
	}
	return strings.Join(out, ", ")
}

// Screen is the screen without colours, at a size.
func (b *Bench) Screen(width, height int) string {
	return strip(b.desk.draw(screen{width: width, height: height, server: "tps.example"}))
}

// Focus is the reader that gets the keys.
func (b *Bench) Focus() string {
	if s := b.desk.focused(); s != nil {
		return s.name
	}
	return ""
}

// Readers are the readers with a pane.
func (b *Bench) Readers() string {
	var names []string
	for _, s := range b.desk.slots {
		names = append(names, s.name)
	}
	return strings.Join(names, " ")
}

// Typed is everything that is held of what was typed.
func (b *Bench) Typed() string {
	var out []string
	for _, s := range b.desk.slots {
		if s.form != nil {
			for _, f := range s.form.fields {
				out = append(out, string(f.text[:cap(f.text)]))
			}
		}
	}
	return strings.Trim(strings.Join(out, ""), "\x00")
}

// strip takes escape sequences and the spaces at the ends of lines away.
func strip(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		if s[0] == 0x1B {
			end := strings.IndexFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' })
			s = s[end+1:]
			continue
		}
		out.WriteByte(s[0])
		s = s[1:]
	}
	lines := strings.Split(out.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
