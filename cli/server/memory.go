package server

import "runtime"

// collectFrom is how much a node allocates at least before its memory is searched
// for garbage: bytes. The little that a quiet node keeps would else be searched
// many times a second when many people enroll at once, at a fifth of their
// processor time.
const collectFrom = 48 << 20

// roomForGarbage puts off the collection of garbage until release. Go reckons it
// from the size of the heap and takes no lower bound, so this is a part of the heap
// that nobody touches: address space, no memory.
func roomForGarbage() (release func()) {
	room := make([]byte, collectFrom)
	return func() { runtime.KeepAlive(room) }
}
