package sim

// OnStep has f called before every step of writing the image; its error is a
// power failure there.
func (c *Card) OnStep(f func(step string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.img.step = f
}
