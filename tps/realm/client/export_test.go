package client

import "time"

// SetClock replaces the time.
func (c *Client) SetClock(now func() time.Time) { c.now = now }
