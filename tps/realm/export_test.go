package realm

import (
	"context"
	"time"
)

// SetClock replaces the time and the waiting: a wait moves the clock.
func (r *Realm) SetClock(now func() time.Time, wait func(ctx context.Context, d time.Duration) error) {
	r.now, r.wait = now, wait
}

// SetLook replaces how often Run looks at the keys.
func (r *Realm) SetLook(d time.Duration) { r.look = d }

// Parsers, for fuzzing.
var (
	ParsePrivateKey   = parsePrivateKey
	ParseCertificates = parseCertificates
	OpenKeystore      = openKeystore
)
