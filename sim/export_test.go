package sim

// OnStep has f called before the image is written ("write") and when it is
// ("written"); its error is a power failure there.
func (c *Card) OnStep(f func(step string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.img.step = f
}
