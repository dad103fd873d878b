package kiosk

import (
	"context"
	"slices"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// worker does what the desk wants done, each job in a goroutine of its own that
// owns its card from beginning to end.
type worker struct {
	cfg  Config
	send func(event any) // to the desk; never blocks for long

	mu   sync.Mutex
	jobs map[int]*job
}

// job is an operation that runs.
type job struct {
	cancel  context.CancelFunc
	answers chan any // one at a time: auth.Answers or secret.PIN
}

func newWorker(cfg Config, send func(any)) *worker {
	return &worker{cfg: cfg, send: send, jobs: map[int]*job{}}
}

// start begins one thing that the desk wants done, and returns what goes on in the
// background and ends with an event; nil where nothing does.
func (w *worker) start(ctx context.Context, todo any) tea.Cmd {
	switch e := todo.(type) {
	case look:
		return func() tea.Msg { return w.look(ctx, e) }
	case operate:
		run := w.prepare(ctx, e)
		return func() tea.Msg { return run() }
	case logIn:
		w.answer(e.job, e.answers)
	case setPIN:
		w.answer(e.job, e.pin)
	case cancel:
		w.cancel(e.job)
	case wait:
		return tea.Tick(leaveIn, func(time.Time) tea.Msg { return patienceEnded{} })
	case leave:
		return tea.Quit
	}
	return nil
}

// open opens the card in a reader.
func (w *worker) open(ctx context.Context, reader string) (station.Card, error) {
	return station.OpenCard(ctx, w.source(reader))
}

func (w *worker) source(reader string) station.Source {
	if slices.Contains(w.cfg.Images, reader) {
		return station.Source{Sim: reader}
	}
	return station.Source{Reader: reader}
}

// look reads what a card shows.
func (w *worker) look(ctx context.Context, e look) described {
	out := described{job: e.job}
	card, err := w.open(ctx, e.reader)
	if err != nil {
		out.err = err
	} else {
		out.info, out.err = station.Describe(ctx, card)
		if out.err != nil && answers(ctx, card, out.info.CUID) {
			w.cfg.Log.WarnContext(ctx, "card unreadable", "reader", e.reader, "cuid", out.info.CUID, "err", out.err)
			out.damaged, out.err = true, nil
		}
		w.close(ctx, card)
	}
	w.cfg.Log.InfoContext(ctx, "card read", "reader", e.reader, "cuid", out.info.CUID, "damaged", out.damaged, "err", out.err)
	return out
}

// answers reports a card that is there and says who it is: then it is its content
// that cannot be read, and not the card.
func answers(ctx context.Context, card station.Card, cuid string) bool {
	now, err := station.CUID(ctx, card)
	return err == nil && now == cuid
}

func (w *worker) close(ctx context.Context, card station.Card) {
	if err := card.Close(); err != nil {
		w.cfg.Log.WarnContext(ctx, "card not closed", "err", err)
	}
}

// prepare registers an operation, so that it can be answered and cancelled, and
// returns what runs it.
func (w *worker) prepare(ctx context.Context, e operate) func() ended {
	ctx, stop := context.WithCancel(ctx)
	j := &job{cancel: stop, answers: make(chan any, 1)}
	w.mu.Lock()
	w.jobs[e.job] = j
	w.mu.Unlock()
	return func() ended {
		defer stop()
		err := w.operate(ctx, e, j)
		w.mu.Lock()
		delete(w.jobs, e.job)
		w.mu.Unlock()
		j.drain()
		w.cfg.Log.InfoContext(ctx, "operation ended", "op", e.op.String(), "reader", e.reader, "cuid", e.cuid, "err", err)
		return ended{e.job, err}
	}
}

func (w *worker) operate(ctx context.Context, e operate, j *job) error {
	w.cfg.Log.InfoContext(ctx, "operation begins", "op", e.op.String(), "reader", e.reader, "cuid", e.cuid, "resume", e.resume)
	card, err := w.open(ctx, e.reader)
	if err != nil {
		return err
	}
	defer w.close(ctx, card)
	cuid, err := station.CUID(ctx, card)
	if err != nil {
		return err
	}
	if cuid != e.cuid {
		return station.ErrOtherCard
	}
	witness := &station.Witness{Prompter: &asker{worker: w, id: e.job, job: j}}
	defer witness.PIN.Wipe()
	_, err = wire.Run(ctx, w.cfg.Client, wire.Begin{
		Operation: e.op, TokenType: w.cfg.Profile, Profile: w.cfg.Profile, ClientVersion: w.cfg.Version, Resume: e.resume, Batch: w.cfg.Batch,
	}, card, witness)
	if err != nil || e.op != wire.Enroll || witness.PIN.IsZero() {
		return err
	}
	w.close(ctx, card)
	return w.prove(ctx, e, witness.PIN)
}

// prove has a card that was enrolled use its keys, as another program would.
func (w *worker) prove(ctx context.Context, e operate, pin secret.PIN) error {
	used, err := station.ProveEnrolled(ctx, w.source(e.reader), e.cuid, pin)
	for _, u := range used {
		w.cfg.Log.InfoContext(ctx, "key proved", "reader", e.reader, "cuid", e.cuid, "by", u.By, "slot", u.Slot, "did", u.Did)
	}
	if isGone(err) { // it is enrolled all the same
		w.cfg.Log.WarnContext(ctx, "card gone before it was proved", "reader", e.reader, "cuid", e.cuid, "err", err)
		return nil
	}
	return err
}

// answer hands an answer to the operation that asked, and wipes it where nobody
// waits for it.
func (w *worker) answer(id int, a any) {
	w.mu.Lock()
	j := w.jobs[id]
	w.mu.Unlock()
	if j != nil {
		select {
		case j.answers <- a:
			return
		default:
		}
	}
	wipe(a)
}

func (w *worker) cancel(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if j := w.jobs[id]; j != nil {
		j.cancel()
	}
}

// drain wipes an answer that came too late.
func (j *job) drain() {
	select {
	case a := <-j.answers:
		wipe(a)
	default:
	}
}

func wipe(a any) {
	switch a := a.(type) {
	case auth.Answers:
		a.Wipe()
	case secret.PIN:
		a.Wipe()
	}
}

// asker puts the server's questions to the desk: the kiosk's wire.Prompter.
type asker struct {
	worker *worker
	id     int
	job    *job
}

// Login implements wire.Prompter.
func (a *asker) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	got, err := a.ask(ctx, loginAsked{a.id, f})
	answers, _ := got.(auth.Answers)
	return answers, err
}

// NewPIN implements wire.Prompter.
func (a *asker) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	got, err := a.ask(ctx, pinAsked{a.id, min, max})
	pin, _ := got.(secret.PIN)
	return pin, err
}

// Progress implements wire.Prompter.
func (a *asker) Progress(percent int, task string) {
	a.worker.send(progressed{a.id, percent, task})
}

func (a *asker) ask(ctx context.Context, question any) (any, error) {
	a.job.drain()
	a.worker.send(question)
	select {
	case got := <-a.job.answers:
		return got, nil
	case <-ctx.Done():
		a.worker.send(unasked{a.id})
		return nil, context.Cause(ctx)
	}
}

// watch follows the readers until ctx ends.
func (w *worker) watch(ctx context.Context) {
	for e, err := range station.Watch(ctx, w.cfg.Images) {
		switch {
		case err != nil:
			w.cfg.Log.WarnContext(ctx, "no readers", "err", err)
			w.send(serviceLost{err})
		case w.wanted(e):
			w.cfg.Log.InfoContext(ctx, e.Kind.String(), "reader", e.Reader)
			w.send(readerEvent{e})
		}
	}
}

// wanted reports a reader that the kiosk serves.
func (w *worker) wanted(e pcsc.Event) bool {
	return len(w.cfg.Readers) == 0 || slices.ContainsFunc(w.cfg.Readers, func(name string) bool {
		return pcsc.Named(e.Reader, name)
	})
}
