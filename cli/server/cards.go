package server

import (
	"context"
	"net/http"
	"sync"

	"inkan/tps/wire"
)

// cardService serves card clients, can be ended while the node goes on, and begun
// again.
type cardService struct {
	begin func() *wire.Handler

	mu    sync.Mutex
	h     *wire.Handler
	ended bool
	epoch uint64 // of the array when it was ended
}

func newCardService(begin func() *wire.Handler) *cardService {
	return &cardService{begin: begin, h: begin()}
}

func (c *cardService) handler() *wire.Handler {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// ServeHTTP implements http.Handler.
func (c *cardService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.handler().ServeHTTP(w, r)
}

// drain takes no new operation, and waits until the running ones are through.
func (c *cardService) drain(ctx context.Context, epoch uint64) error {
	c.mu.Lock()
	h := c.h
	c.ended, c.epoch = true, epoch
	c.mu.Unlock()
	return h.Drain(ctx)
}

// resume takes operations again after drain, when the array has decided so: in a later
// epoch.
func (c *cardService) resume(epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended && epoch > c.epoch {
		c.h, c.ended = c.begin(), false
	}
}
