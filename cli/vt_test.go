//go:build unix

package cli_test

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// vt is what a terminal shows: a small VT220, as much of it as full-screen
// programs use with TERM=linux. Colours are not kept.
type vt struct {
	mu      sync.Mutex
	cells   [][]rune
	row     int
	col     int
	top     int      // of the lines that scroll
	bottom  int      // the line after them
	alt     bool     // the alternate screen is shown
	printed rune     // last
	unknown []string // sequences that this terminal does not have
	pending []byte   // an escape sequence or a character that is not complete
	changed chan struct{}
}

func newVT(rows, cols int) *vt {
	s := &vt{changed: make(chan struct{}, 1)}
	s.resize(rows, cols)
	return s
}

func (s *vt) resize(rows, cols int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells = make([][]rune, rows)
	for i := range s.cells {
		s.cells[i] = blankLine(cols)
	}
	s.row, s.col, s.top, s.bottom = 0, 0, 0, rows
}

func blankLine(cols int) []rune { return []rune(strings.Repeat(" ", cols)) }

// Write implements io.Writer: what a program sends to its terminal.
func (s *vt) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, b...)
	for len(s.pending) > 0 {
		n := s.take(s.pending)
		if n == 0 {
			break
		}
		s.pending = s.pending[n:]
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

// text is the screen, line by line without spaces at the ends.
func (s *vt) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, len(s.cells))
	for i, l := range s.cells {
		lines[i] = strings.TrimRight(string(l), " ")
	}
	return strings.Join(lines, "\n")
}

func (s *vt) isAlternate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alt
}

// take handles what stands first and returns its length; 0 where it is not complete.
func (s *vt) take(b []byte) int {
	switch c := b[0]; {
	case c == 0x1B:
		return s.escape(b)
	case c == '\r':
		s.col = 0
	case c == '\n':
		s.down()
	case c == '\b':
		s.col = max(0, s.col-1)
	case c == '\t':
		s.col = min(len(s.cells[0])-1, s.col/8*8+8)
	case c < 0x20:
	default:
		if !utf8.FullRune(b) {
			return 0
		}
		r, n := utf8.DecodeRune(b)
		s.put(r)
		return n
	}
	return 1
}

func (s *vt) put(r rune) {
	if s.col >= len(s.cells[0]) {
		s.col = 0
		s.down()
	}
	s.cells[s.row][s.col], s.printed = r, r
	s.col++
}

func (s *vt) down() {
	if s.row+1 == s.bottom {
		s.scroll(s.top, 1)
		return
	}
	s.row = min(s.row+1, len(s.cells)-1)
}

func (s *vt) up() {
	if s.row == s.top {
		s.scroll(s.top, -1)
		return
	}
	s.row = max(0, s.row-1)
}

// scroll moves the lines from one to the end of the region up (n > 0) or down.
func (s *vt) scroll(from, n int) {
	lines, cols := s.cells[from:s.bottom], len(s.cells[0])
	for ; n > 0; n-- {
		copy(lines, lines[1:])
		lines[len(lines)-1] = blankLine(cols)
	}
	for ; n < 0; n++ {
		copy(lines[1:], lines)
		lines[0] = blankLine(cols)
	}
}

func (s *vt) escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '[':
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7E {
				s.control(string(b[2:i]), b[i])
				return i + 1
			}
		}
		return 0
	case ']', 'P', '_', '^': // strings: to BEL or ST
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1
			}
			if b[i] == '\\' && b[i-1] == 0x1B {
				return i + 1
			}
		}
		return 0
	case 'M':
		s.up()
	case 'D':
		s.down()
	case '(', ')', '#':
		if len(b) < 3 {
			return 0
		}
		return 3
	}
	return 2
}

// control is a control sequence: parameters and final byte.
func (s *vt) control(params string, final byte) {
	if strings.HasPrefix(params, "?") {
		if params == "?1049" {
			s.alt = final == 'h'
			s.erase(0, 0, len(s.cells)-1, len(s.cells[0]))
		}
		return
	}
	n := func(i, byDefault int) int {
		parts := strings.Split(params, ";")
		if i < len(parts) {
			if v, err := strconv.Atoi(parts[i]); err == nil && v > 0 {
				return v
			}
		}
		return byDefault
	}
	rows, cols := len(s.cells), len(s.cells[0])
	switch final {
	case 'H', 'f':
		s.row, s.col = min(n(0, 1), rows)-1, min(n(1, 1), cols)-1
	case 'A':
		s.row = max(0, s.row-n(0, 1))
	case 'B':
		s.row = min(rows-1, s.row+n(0, 1))
	case 'C':
		s.col = min(cols-1, s.col+n(0, 1))
	case 'D':
		s.col = max(0, s.col-n(0, 1))
	case 'G', '`':
		s.col = min(cols, n(0, 1)) - 1
	case 'd':
		s.row = min(rows, n(0, 1)) - 1
	case 'X':
		s.erase(s.row, s.col, s.row, min(cols, s.col+n(0, 1)))
	case 'K':
		from, to := s.col, cols
		if k := n(0, 0); k > 0 {
			from = 0
			if k == 1 {
				to = s.col + 1
			}
		}
		s.erase(s.row, from, s.row, min(to, cols))
	case 'J':
		if n(0, 0) == 2 {
			s.erase(0, 0, rows-1, cols)
			return
		}
		s.erase(s.row, s.col, rows-1, cols)
	case '@':
		l := s.cells[s.row]
		copy(l[min(cols, s.col+n(0, 1)):], l[s.col:])
		s.erase(s.row, s.col, s.row, min(cols, s.col+n(0, 1)))
	case 'P':
		l := s.cells[s.row]
		k := min(cols-s.col, n(0, 1))
		copy(l[s.col:], l[s.col+k:])
		s.erase(s.row, cols-k, s.row, cols)
	case 'L':
		s.scroll(s.row, -n(0, 1))
	case 'M':
		s.scroll(s.row, n(0, 1))
	case 'S':
		s.scroll(s.top, n(0, 1))
	case 'T':
		s.scroll(s.top, -n(0, 1))
	case 'r':
		s.top, s.bottom = n(0, 1)-1, min(rows, n(1, rows))
		s.row, s.col = 0, 0
	case 'b':
		for range n(0, 1) {
			s.put(s.printed)
		}
	case 'm', 'h', 'l', 'n', 'c', 'q', 'u', 't', 'p':
	default:
		s.unknown = append(s.unknown, params+string(final))
	}
}

// erase blanks from one cell to before another.
func (s *vt) erase(row, col, toRow, toCol int) {
	for r := row; r <= toRow; r++ {
		from, to := 0, len(s.cells[r])
		if r == row {
			from = min(col, to)
		}
		if r == toRow {
			to = min(toCol, to)
		}
		for c := from; c < to; c++ {
			s.cells[r][c] = ' '
		}
	}
}
