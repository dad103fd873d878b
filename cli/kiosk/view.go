package kiosk

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
)

// screen is what the terminal is like.
type screen struct {
	width, height int
	frame         int // of what turns
	server        string
}

func (sc screen) tooSmall() bool { return sc.width < leastWidth || sc.height < leastHeight }

// Sizes of the screen, in cells.
const (
	leastWidth  = 60
	leastHeight = 20
	leastColumn = 38 // of readers side by side
	widestText  = 72
	widestPane  = 90
	highestPane = 20
	shortText   = 24 // of a reader's state
)

// Styles. Nothing is told by colour alone: NO_COLOR and monochrome terminals show
// the same words, bold and frames.
var (
	bold   = lipgloss.NewStyle().Bold(true)
	dim    = lipgloss.NewStyle().Faint(true)
	accent = lipgloss.NewStyle().Foreground(lipgloss.Color("6")).Bold(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Color("2")).Bold(true)
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Color("3")).Bold(true)
)

// draw is the whole screen. It is pure: the same desk gives the same text.
func (d *desk) draw(sc screen) string {
	if sc.width == 0 { // not known yet
		return ""
	}
	if sc.tooSmall() {
		return fmt.Sprintf("This window is too small.\nMake it at least %d by %d.\nNothing is lost meanwhile.", leastWidth, leastHeight)
	}
	head := spread(sc.width, accent.Render(" Inkan")+"  enrollment station", dim.Render(sc.server+" "))
	foot := dim.Render(" " + cut(d.help(), sc.width-2))
	height := sc.height - lipgloss.Height(head) - lipgloss.Height(foot) - 1
	body := lipgloss.NewStyle().Width(sc.width).Height(height).MaxHeight(height).Render(d.body(sc, height))
	return head + "\n\n" + body + "\n" + foot
}

// body is all between the first line and the last.
func (d *desk) body(sc screen, height int) string {
	switch {
	case d.leaving != staying:
		return middle(sc.width, height, d.farewell(sc))
	case len(d.slots) == 0 && d.trouble != "":
		return middle(sc.width, height, bad.Width(min(widestText, sc.width-4)).Render(d.trouble))
	case len(d.slots) == 0:
		return middle(sc.width, height, bold.Render("No card reader is connected.")+"\n\nPlug one in.")
	case len(d.slots) == 1 || len(d.slots)*leastColumn <= sc.width:
		return d.columns(sc, height)
	}
	return d.list(sc, height)
}

// columns are all readers side by side.
func (d *desk) columns(sc screen, room int) string {
	width, height := min(sc.width/len(d.slots), widestPane), min(room, highestPane)
	var panes []string
	for i, s := range d.slots {
		title := fmt.Sprintf("  %d  %s", i+1, s.label())
		if i == d.focus {
			title = fmt.Sprintf("▸ %d  %s", i+1, s.label())
		}
		panes = append(panes, s.frame(title, i == d.focus, width, height, sc.frame))
	}
	return lipgloss.JoinHorizontal(lipgloss.Top, panes...)
}

// list is a line for each reader, and below them the one that has the focus.
func (d *desk) list(sc screen, height int) string {
	first := max(0, min(d.focus-2, len(d.slots)-5))
	var lines []string
	for i, s := range d.slots[first:min(len(d.slots), first+5)] {
		mark, style := "  ", lipgloss.NewStyle()
		if first+i == d.focus {
			mark, style = "▸ ", bold
		}
		name := fmt.Sprintf("%s%d  %s", mark, first+i+1, s.label())
		room := sc.width - 2
		lines = append(lines, " "+spread(room, style.Render(cut(name, room-shortText-1)), s.short(shortText)))
	}
	pane := d.focused().frame("", true, min(sc.width, widestPane), min(height-len(lines), highestPane), sc.frame)
	return strings.Join(lines, "\n") + "\n" + pane
}

// farewell is the screen of a kiosk that is about to end.
func (d *desk) farewell(sc screen) string {
	n := 0
	for _, s := range d.slots {
		if s.busy() {
			n++
		}
	}
	if d.leaving == ending {
		return bold.Render("Ending the work on the cards.") + "\n\nLeave them in their readers " + spinner(sc.frame)
	}
	what := "An operation is running."
	if n > 1 {
		what = fmt.Sprintf("%d operations are running.", n)
	}
	return bold.Render(what) + "\n\nLeave all the same? No card is lost: each can be finished later.\n\n" + buttons(d.yes, "No, go on", "Yes, leave")
}

// help is the line at the bottom.
func (d *desk) help() string {
	keys := []string{}
	s := d.focused()
	switch {
	case d.leaving == unsure:
		return "←→ choose · Enter take it"
	case s == nil:
	case s.asks, s.stage == asking:
		keys = append(keys, "←→ choose", "Enter take it")
	case s.stage == choosing:
		keys = append(keys, "↑↓ choose", "Enter go on")
	case s.form != nil:
		keys = append(keys, "Enter go on", "↑↓ field", "Esc stop")
	case s.stage == working:
		keys = append(keys, "Esc stop")
	case s.stage == stuck, s.stage == done:
		keys = append(keys, "Enter read the card again")
	}
	if len(d.slots) > 1 {
		keys = append(keys, fmt.Sprintf("F1–F%d, Ctrl+N reader", min(9, len(d.slots))))
	}
	return strings.Join(append(keys, "Ctrl+C leave"), " · ")
}

func middle(width, height int, text string) string {
	return lipgloss.Place(width, height, lipgloss.Center, lipgloss.Center, lipgloss.NewStyle().MaxWidth(width-2).Render(text))
}

// spread puts two texts at the ends of a line.
func spread(width int, left, right string) string {
	gap := width - lipgloss.Width(left) - lipgloss.Width(right)
	if gap < 1 {
		return cut(left, width)
	}
	return left + strings.Repeat(" ", gap) + right
}

// cut shortens a line to a width.
func cut(s string, width int) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	return lipgloss.NewStyle().MaxWidth(max(0, width-1)).Render(s) + "…"
}

func spinner(frame int) string {
	turns := []string{"·  ", "·· ", "···", " ··", "  ·", "   "}
	return turns[frame%len(turns)]
}

// buttons are the answers of a question; the one that Enter gives stands between brackets.
func buttons(yes bool, no, go_ string) string {
	if yes {
		return "  " + no + "    " + bold.Render("[ "+go_+" ]")
	}
	return bold.Render("[ "+no+" ]") + "    " + go_ + "  "
}
