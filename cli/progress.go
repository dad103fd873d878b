package cli

import (
	"io"
	"os"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// bar is a progress bar on a terminal.
type bar struct {
	all  *mpb.Progress
	bar  *mpb.Bar
	task atomic.Value
}

// newBar returns nil where w is no terminal: then there is no progress.
func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &bar{all: mpb.New(mpb.WithOutput(w), mpb.WithWidth(48))}
	b.task.Store("")
	b.bar = b.all.AddBar(100,
		mpb.PrependDecorators(decor.Percentage(decor.WC{W: 5})),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_MMSS), decor.Any(func(decor.Statistics) string { return "  " + b.task.Load().(string) })),
	)
	return b
}

func (b *bar) set(percent int, task string) {
	b.task.Store(task)
	b.bar.SetCurrent(int64(percent))
}

// drop takes the bar away, to make room for a question.
func (b *bar) drop() {
	b.bar.Abort(true)
	b.all.Wait()
}

// end leaves the bar where it stands.
func (b *bar) end() {
	if !b.bar.Completed() {
		b.bar.Abort(false)
	}
	b.all.Wait()
}
