package durable

import "os"

// BeginSteps is [Begin] with a function that is called before every step, and whose
// error is that step's.
func BeginSteps(path string, mode os.FileMode, step func(name string) error) (*Replacement, error) {
	r, err := Begin(path, mode)
	if err == nil {
		r.step = step
	}
	return r, err
}
