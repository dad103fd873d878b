package api

import (
	"slices"
	"strconv"
	"time"
)

// Page sizes.
const (
	defaultSize = 20
	MaxSize     = 1000 // of one page
)

// chunk is how many records are read at a time to count them.
const chunk = 1000

// List is the answer of a list. Next is where the next page continues (parameter
// after), empty at the end. Total is left out where after was asked with: it
// costs reading all records.
type List[T any] struct {
	Total   *int   `json:"total,omitempty"`
	Next    string `json:"next,omitempty"`
	Entries []T    `json:"entries"`
}

// page is which part of a list is asked for.
type page struct {
	start, size int
	after       string
}

// param is a parameter of the address; "" if it is not there.
func (c *call) param(name string) string { return c.URL.Query().Get(name) }

// page reads start, size (or pageSize) and after.
func (c *call) page() (page, error) {
	p := page{size: defaultSize, after: c.param("after")}
	size := c.param("size")
	if size == "" {
		size = c.param("pageSize")
	}
	var err error
	if size != "" {
		if p.size, err = strconv.Atoi(size); err != nil || p.size < 1 || p.size > MaxSize {
			return p, badRequest("size %q is not a number from 1 to %d", size, MaxSize)
		}
	}
	if s := c.param("start"); s != "" {
		if p.start, err = strconv.Atoi(s); err != nil || p.start < 0 {
			return p, badRequest("start %q is not a number", s)
		}
	}
	if p.start > 0 && p.after != "" {
		return p, badRequest("start and after do not go together")
	}
	return p, nil
}

// checkQuery refuses a parameter that nobody reads: a filter with a typing error
// would not filter.
func (c *call) checkQuery(known []string) error {
	for name := range c.URL.Query() {
		if !slices.Contains(known, name) {
			return badRequest("there is no parameter %q here", name)
		}
	}
	return nil
}

// source is a list of the store: records behind after, at most limit.
type source[T any] struct {
	read func(after string, limit int) ([]T, error)
	id   func(T) string
	keep func(T) bool // nil: all
}

// collect reads one page. Without after it goes on to the end to count.
func collect[T any](p page, s source[T]) (rows []T, total *int, next string, err error) {
	counting := p.after == ""
	seen := 0
	for after, done := p.after, false; !done; {
		part, err := s.read(after, chunk)
		if err != nil {
			return nil, nil, "", err
		}
		for _, r := range part {
			after = s.id(r)
			if s.keep != nil && !s.keep(r) {
				continue
			}
			seen++
			switch {
			case seen <= p.start:
			case len(rows) < p.size:
				rows = append(rows, r)
			case next == "":
				next = s.id(rows[len(rows)-1])
			}
		}
		done = len(part) < chunk || !counting && next != ""
	}
	if counting {
		total = &seen
	}
	return rows, total, next, nil
}

// convert makes the answer of a page.
func convert[T, U any](p page, s source[T], each func(T) (U, error)) (reply, error) {
	rows, total, next, err := collect(p, s)
	if err != nil {
		return reply{}, err
	}
	out := List[U]{Total: total, Next: next, Entries: make([]U, 0, len(rows))}
	for _, r := range rows {
		u, err := each(r)
		if err != nil {
			return reply{}, err
		}
		out.Entries = append(out.Entries, u)
	}
	return reply{body: out}, nil
}

// Millis is a time as milliseconds since 1970; 0 for the zero time.
type Millis int64

func millis(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// Time is the time in the local zone, zero for 0.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m))
}
