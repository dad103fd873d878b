package sim

// Cut removes the power at the n-th exchange from now on (1 = the next), before
// the card sees the command or after it acted. From then on Transmit returns
// apdu.ErrCardRemoved until [Card.Insert]. n = 0 takes a Cut back. Every
// Transmit is an exchange, also GET RESPONSE.
func (c *Card) Cut(n int, w When) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n <= 0 {
		c.cutAt = 0
		return
	}
	c.cutAt, c.cutWhen = c.exchanges+n, w
}

// Exchanges is the number of exchanges since the card was made or opened.
func (c *Card) Exchanges() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exchanges
}

// Remove pulls the card out of its reader.
func (c *Card) Remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pull()
}

// Insert puts the card back: it is powered and reset.
func (c *Card) Insert() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out {
		c.out = false
		c.reset()
	}
}

// Inserted reports whether the card is in its reader.
func (c *Card) Inserted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.out && !c.closed
}

func (c *Card) pull() {
	c.out = true
	c.reset()
}
