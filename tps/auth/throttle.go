package auth

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Throttle slows down whoever guesses: after a few wrong answers for a key (a
// user id, a card) each further one doubles the time in which no answer is
// taken. Answers for one key are checked one after the other. The zero value is
// ready; it is safe for concurrent use and lives in memory only.
type Throttle struct {
	// Free is how many wrong answers cost nothing; default 3.
	Free int
	// First is the wait after the first one that does; default 1 s. It doubles
	// up to Most, default 5 min, and starts anew after an hour without an answer.
	First, Most time.Duration

	mu   sync.Mutex
	keys map[string]*guesses
}

// maxKeys bounds the memory of a Throttle.
const maxKeys = 10_000

// oblivion is after how long without an answer the wrong ones are forgotten.
const oblivion = time.Hour

// guesses is what a Throttle knows about one key.
type guesses struct {
	turn   chan struct{} // held by the one whose answer is being checked
	users  int           // who hold or wait for turn; under Throttle.mu
	wrong  int
	latest time.Time
	until  time.Time
}

// Do runs check unless key has to wait: then ErrThrottled. An ErrBadCredentials
// from check counts as a wrong answer, nil forgets the ones before, another
// error does neither.
func (t *Throttle) Do(ctx context.Context, key string, check func() error) error {
	g := t.enter(key)
	defer t.leave(g)
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.turn }()
	if t.waits(g) {
		return ErrThrottled
	}
	err := check()
	t.judge(g, err)
	return err
}

func (t *Throttle) enter(key string) *guesses {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil {
		t.keys = map[string]*guesses{}
	}
	g, ok := t.keys[key]
	if !ok {
		if len(t.keys) >= maxKeys {
			t.forget()
		}
		g = &guesses{turn: make(chan struct{}, 1), latest: time.Now()}
		t.keys[key] = g
	}
	g.users++
	return g
}

func (t *Throttle) leave(g *guesses) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g.users--
}

func (t *Throttle) waits(g *guesses) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(g.until)
}

func (t *Throttle) judge(g *guesses, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	idle := time.Since(g.latest)
	g.latest = time.Now()
	switch {
	case err == nil:
		g.wrong, g.until = 0, time.Time{}
	case errors.Is(err, ErrBadCredentials):
		if idle > oblivion {
			g.wrong = 0
		}
		g.wrong++
		g.until = g.latest.Add(t.delay(g.wrong))
	}
}

// delay is the wait after n wrong answers.
func (t *Throttle) delay(n int) time.Duration {
	free, wait, most := t.Free, t.First, t.Most
	if free == 0 {
		free = 3
	}
	if wait == 0 {
		wait = time.Second
	}
	if most == 0 {
		most = 5 * time.Minute
	}
	if n <= free {
		return 0
	}
	for range n - free - 1 {
		if wait *= 2; wait >= most {
			return most
		}
	}
	return min(wait, most)
}

// forget drops the key that was idle longest, of those without a wait if there
// are any: whoever floods the table with names does not free a key that waits.
func (t *Throttle) forget() {
	now := time.Now()
	var oldest string
	var victim *guesses
	for key, g := range t.keys {
		if g.users > 0 {
			continue
		}
		if victim == nil || better(g, victim, now) {
			oldest, victim = key, g
		}
	}
	if victim != nil {
		delete(t.keys, oldest)
	}
}

func better(g, than *guesses, now time.Time) bool {
	waits, thanWaits := now.Before(g.until), now.Before(than.until)
	if waits != thanWaits {
		return thanWaits
	}
	return g.latest.Before(than.latest)
}
