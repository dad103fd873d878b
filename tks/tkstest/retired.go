package tkstest

import (
	"context"
	"sync"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/local"
)

// Retirements are the retired key sets as a database has them, in memory. The zero value
// has none.
type Retirements struct {
	mu sync.Mutex
	is map[local.Target]bool
}

var _ local.Retirements = (*Retirements)(nil)

// Retired implements local.Retirements.
func (r *Retirements) Retired(_ context.Context, set tks.KeySetName, v gp.KeyVersion) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.is[local.Target{KeySet: set, Version: v}], nil
}

// Retire implements local.Retirements.
func (r *Retirements) Retire(_ context.Context, set tks.KeySetName, v gp.KeyVersion, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is == nil {
		r.is = map[local.Target]bool{}
	}
	r.is[local.Target{KeySet: set, Version: v}] = true
	return nil
}
