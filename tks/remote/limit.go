package remote

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds the calls of each peer. Peers are members of an array: there are
// few of them.
type limiter struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// allow takes one call out of a peer's bucket.
func (l *limiter) allow(c Caller, now time.Time) bool {
	if c.CallsPerMinute <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[c.Name]
	if b == nil || b.Burst() != c.CallsPerMinute { // a new one where the grant has changed
		if l.buckets == nil {
			l.buckets = map[string]*rate.Limiter{}
		}
		b = rate.NewLimiter(rate.Every(time.Minute/time.Duration(c.CallsPerMinute)), c.CallsPerMinute)
		l.buckets[c.Name] = b
	}
	return b.AllowN(now, 1)
}
