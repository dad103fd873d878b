package kiosk

import (
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"
	uv "github.com/charmbracelet/ultraviolet"
)

// shell joins the desk to a terminal: a tea.Model. Its Update and View run in one
// goroutine.
type shell struct {
	desk   *desk
	watch  func()                 // follows the readers until the kiosk ends
	start  func(todo any) tea.Cmd // begins what the desk wants done
	server string

	width, height int
	frame         int  // of what turns while something runs
	turning       bool // a tick is under way
	console       bool // the next letter is a function key of the Linux console
}

// consoleKey begins F1 to F5 of the Linux console: a letter from A to E follows,
// which the library takes for one that was typed.
const consoleKey = uv.UnknownCsiEvent("\x1b[[")

// tick turns what turns.
type tick struct{}

const tickEvery = 120 * time.Millisecond

// Init implements tea.Model.
func (s *shell) Init() tea.Cmd {
	return func() tea.Msg {
		s.watch()
		return nil
	}
}

// Update implements tea.Model.
func (s *shell) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
		return s, nil
	case tick:
		s.frame++
		s.turning = false
		return s, s.turn()
	case uv.UnknownCsiEvent:
		s.console = msg == consoleKey
		return s, nil
	case tea.KeyPressMsg:
		k := keyOf(msg)
		if s.console && len(k.Text) == 1 && k.Text[0] >= 'A' && k.Text[0] <= 'E' {
			k = Key{Name: fmt.Sprintf("f%d", 1+k.Text[0]-'A')}
		}
		s.console = false
		return s, s.typed(k)
	case tea.PasteMsg:
		return s, s.typed(Key{Text: []byte(msg.Content)})
	}
	return s, s.do(s.desk.update(msg))
}

// typed gives a key to the desk. Where the window is too small to show what it
// would do, it can only leave.
func (s *shell) typed(k Key) tea.Cmd {
	defer clear(k.Text)
	if s.screen().tooSmall() && k.Name != "ctrl+c" {
		return nil
	}
	return s.do(s.desk.update(k))
}

// keyOf is a key as the desk knows it: text, or a name.
func keyOf(m tea.KeyPressMsg) Key {
	k := m.Key()
	switch {
	case k.Code == tea.KeyKpEnter:
		return Key{Name: "enter"}
	case k.Text != "":
		return Key{Text: []byte(k.Text)}
	}
	return Key{Name: k.Keystroke()}
}

// do begins what the desk wants done.
func (s *shell) do(todo []any) tea.Cmd {
	cmds := []tea.Cmd{s.turn()}
	for _, e := range todo {
		cmds = append(cmds, s.start(e))
	}
	return tea.Batch(cmds...)
}

// turn keeps the screen moving while something runs.
func (s *shell) turn() tea.Cmd {
	if s.turning || !s.desk.active() {
		return nil
	}
	s.turning = true
	return tea.Tick(tickEvery, func(time.Time) tea.Msg { return tick{} })
}

// View implements tea.Model.
func (s *shell) View() tea.View {
	v := tea.NewView(s.desk.draw(s.screen()))
	v.AltScreen, v.WindowTitle = true, "Inkan enrollment station"
	return v
}

func (s *shell) screen() screen {
	return screen{width: s.width, height: s.height, frame: s.frame, server: s.server}
}
