//go:build !linux

package sealing

// memoryWarning is something that takes secrets out of memory.
type memoryWarning struct{ evidence, next string }

func memoryWarnings() []memoryWarning { return nil }
