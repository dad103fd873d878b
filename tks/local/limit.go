package local

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"inkan/apdu"
	"inkan/tks"
)

// Limit bounds requests: one per Every on average, Burst at once. The zero value
// does not bound.
type Limit struct {
	Every time.Duration
	Burst int
}

// Limits bounds what one caller, and one card as claimed by its CUID, may ask
// for. It is the only defence against a caller that uses the service as an oracle.
type Limits struct{ Peer, Card Limit }

// maxBuckets bounds the memory that invented CUIDs can take. Beyond it, those
// that are full again are forgotten; if none is, the new ones are refused.
const maxBuckets = 100_000

type limiter struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{limits: l, now: now, buckets: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(peer string, cuid apdu.CUID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.take("peer "+peer, l.limits.Peer) {
		return fmt.Errorf("too many requests of %s: %w", peer, tks.ErrDenied)
	}
	if !l.take("card "+string(cuid[:]), l.limits.Card) {
		return fmt.Errorf("too many requests for card %v: %w", cuid, tks.ErrDenied)
	}
	return nil
}

func (l *limiter) take(name string, lim Limit) bool {
	if lim.Every <= 0 {
		return true
	}
	b, ok := l.buckets[name]
	if !ok {
		if len(l.buckets) >= maxBuckets && !l.forget() {
			return false
		}
		b = rate.NewLimiter(rate.Every(lim.Every), max(lim.Burst, 1))
		l.buckets[name] = b
	}
	return b.AllowN(l.now(), 1)
}

// forget drops the buckets that are full: they say nothing.
func (l *limiter) forget() bool {
	for name, b := range l.buckets {
		if b.TokensAt(l.now()) >= float64(b.Burst()) {
			delete(l.buckets, name)
		}
	}
	return len(l.buckets) < maxBuckets
}
