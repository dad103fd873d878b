package kiosk

import (
	"fmt"
	"path/filepath"
	"strings"

	"charm.land/lipgloss/v2"
)

// frame is one reader in a frame of width by height cells.
func (s *slot) frame(title string, focused bool, width, height, turn int) string {
	box, name := lipgloss.NewStyle().Border(lipgloss.RoundedBorder()).BorderForeground(lipgloss.Color("8")), dim
	if focused {
		box, name = lipgloss.NewStyle().Border(lipgloss.ThickBorder()).BorderForeground(lipgloss.Color("6")), bold
	}
	box = box.Padding(0, 1).Width(width).Height(height)
	inner, room := width-box.GetHorizontalFrameSize(), height-box.GetVerticalFrameSize()
	if title != "" {
		title = name.Render(cut(title, inner)) + "\n\n"
		room -= 2
	}
	return box.MaxHeight(height).Render(title + s.content(min(inner, widestText), room, turn))
}

// label is the reader's name; a software card goes by its file.
func (s *slot) label() string { return clean(filepath.Base(s.name)) }

// content is what is told of a card. What matters least goes where there is no room.
func (s *slot) content(width, height, frame int) string {
	wrap := lipgloss.NewStyle().Width(width)
	var head, facts, last string
	if s.card.title != "" {
		head = wrap.Render(bold.Render(s.card.title)) + "\n"
		for _, l := range s.card.lines {
			facts += wrap.Render(dim.Render(l)) + "\n"
		}
	}
	main := s.main(wrap, width, frame)
	if s.note.text != "" {
		style, mark := good, "✓ "
		if s.note.bad {
			style, mark = bad, "! "
		}
		last = "\n\n" + wrap.Render(style.Render(mark+s.note.text))
	}
	if head == "" {
		return main + last
	}
	for _, text := range []string{head + facts + "\n" + main + last, head + "\n" + main + last} {
		if lipgloss.Height(text) <= height {
			return text
		}
	}
	return main + last
}

// main is what happens now.
func (s *slot) main(wrap lipgloss.Style, width, frame int) string {
	switch s.stage {
	case vacant:
		return "Ready. Insert a card."
	case reading:
		return "Reading the card " + spinner(frame)
	case stuck:
		return "Nothing can be done with this card here."
	case choosing:
		return s.choices(width)
	case asking:
		return s.question(wrap)
	case working:
		return s.progress(wrap, width, frame)
	}
	return good.Render(wrap.Render("✓ "+finished(s.op))) + "\n\n" + bold.Render("The card may be taken out.")
}

func (s *slot) choices(width int) string {
	lines := []string{"What shall be done with it?", ""}
	for i, o := range s.card.offers {
		mark, style := "  ", lipgloss.NewStyle()
		if i == s.cursor {
			mark, style = "▸ ", bold
		}
		lines = append(lines, style.Render(cut(mark+o.title, width)))
	}
	return strings.Join(lines, "\n")
}

// question says what will be lost.
func (s *slot) question(wrap lipgloss.Style) string {
	o := s.card.offers[s.cursor]
	lines := []string{wrap.Render(bad.Render(o.ask + " This will be lost:"))}
	for _, l := range o.lost {
		lines = append(lines, wrap.Render("– "+l))
	}
	return strings.Join(append(lines, "", buttons(s.yes, "No, keep it", "Yes, "+verb(o))), "\n")
}

// progress is an operation that runs, and what the server asks.
func (s *slot) progress(wrap lipgloss.Style, width, frame int) string {
	title := bold.Render(capital(doing(s.op)))
	switch {
	case s.pulled:
		return title + "\n\n" + wrap.Render(bad.Render("The card was taken out.")+" Ending "+spinner(frame))
	case s.stopped:
		return title + "\n\n" + wrap.Render("Stopping. Leave the card in "+spinner(frame))
	case s.asks:
		return title + "\n\n" + wrap.Render("Stop? The card is not lost: it can be finished later.") + "\n\n" + buttons(s.yes, "No, go on", "Yes, stop")
	case s.form != nil:
		return s.form.draw(wrap, width)
	case s.percent == 0:
		return title + "\n\n" + wrap.Render("The server looks at the card "+spinner(frame)) + "\n\nDo not take the card out."
	}
	return title + "\n\n" + bar(s.percent, min(width, 50)) + "\n" + wrap.Render(sentence(s.task)+" "+spinner(frame)) + "\n\n" + bold.Render("Do not take the card out.")
}

// bar is a progress bar with its number.
func bar(percent, width int) string {
	n := max(1, width-6)
	full := n * percent / 100
	return accent.Render(strings.Repeat("█", full)) + dim.Render(strings.Repeat("░", n-full)) + fmt.Sprintf(" %3d %%", percent)
}

// draw is a form with its fields.
func (f *form) draw(wrap lipgloss.Style, width int) string {
	lines := []string{bold.Render(f.title)}
	if f.hint != "" {
		lines = append(lines, wrap.Render(f.hint))
	}
	if f.problem != "" {
		lines = append(lines, wrap.Render(bad.Render("! "+f.problem)))
	}
	label := 0
	for _, in := range f.fields {
		label = max(label, lipgloss.Width(in.label))
	}
	label = min(label, width/2)
	lines = append(lines, "")
	for i, in := range f.fields {
		mark, end := "  ", ""
		if i == f.at {
			mark, end = "▸ ", "▏"
		}
		name := cut(in.label, label)
		name += strings.Repeat(" ", label-lipgloss.Width(name))
		lines = append(lines, mark+name+"  "+tail(in.shown(), width-label-6)+end)
	}
	return strings.Join(lines, "\n")
}

// tail is the end of a text that is longer than its field.
func tail(s string, width int) string {
	for r := []rune(s); lipgloss.Width(s) > max(1, width) && len(r) > 0; {
		r = r[1:]
		s = string(r)
	}
	return s
}

// short is the slot in a few words.
func (s *slot) short(width int) string {
	text, style := "ready", dim
	switch {
	case s.needsPerson():
		text, style = "waits for you", accent
	case s.stage == working && s.pulled:
		text, style = "card taken out", bad
	case s.stage == working:
		text, style = fmt.Sprintf("%3d %%  do not take out", s.percent), bold
	case s.stage == reading:
		text = "reading"
	case s.stage == done:
		text, style = "done: take it out", good
	case s.note.bad:
		text, style = "look here", bad
	}
	return style.Render(cut(text, width))
}

// verb is what the person says yes to.
func verb(o offer) string {
	if s, _, ok := strings.Cut(o.title, ":"); ok {
		return lower(s)
	}
	return lower(o.title)
}
