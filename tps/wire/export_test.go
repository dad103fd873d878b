package wire

// Refuses reports whether new operations are refused.
func (h *Handler) Refuses() bool { return h.refuses() }
