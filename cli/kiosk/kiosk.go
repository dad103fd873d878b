// Package kiosk is the enrollment station: a full-screen program that waits for
// cards in all readers of this machine, says what each is, offers what it needs,
// and leads the person at the desk through it.
//
// [Run] is all there is to call. Inside, a desk of one state machine per reader
// takes events and returns what is to be done, without a terminal, a card or a
// server; the worker does it, each card in a goroutine of its own; the shell joins
// the two to a terminal. What is typed into a hidden field is held in buffers that
// are wiped, never in a string of this package, and never drawn.
package kiosk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	tea "charm.land/bubbletea/v2"

	"inkan/tps/wire"
)

// Config says what a kiosk works with. Client, In and Out are required.
type Config struct {
	In  io.Reader // a terminal
	Out io.Writer // a terminal

	Client  *wire.Client
	Profile string // the one profile that will do; "" = the server's choice
	Batch   int    // commands to the card in one network round trip, 0 = one
	Version string // of this program, for the server

	Readers []string     // names of the readers to serve, or their beginnings; empty: all
	Images  []string     // image files of software cards, instead of readers
	Log     *slog.Logger // nil = discard
}

// leaveIn is how long operations get to end in order when the kiosk leaves.
const leaveIn = 20 * time.Second

// Run shows the kiosk until the person leaves it or ctx ends; running operations
// are then ended between two commands to the card, so that they can be finished
// later. The terminal is restored, also after an error.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Client == nil || cfg.In == nil || cfg.Out == nil {
		return errors.New("a kiosk needs a server, and a terminal for input and output")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var p *tea.Program
	w := newWorker(cfg, func(e any) { p.Send(e) })
	s := &shell{
		desk: newDesk(time.Now), server: hostOf(cfg.Client.BaseURL),
		watch: func() { w.watch(work) }, start: func(todo any) tea.Cmd { return w.start(work, todo) },
	}
	p = tea.NewProgram(s, tea.WithInput(cfg.In), tea.WithOutput(cfg.Out), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, func() { p.Send(interrupted{}) })()
	if _, err := p.Run(); err != nil {
		return fmt.Errorf("showing the kiosk: %w", err)
	}
	return nil
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}
