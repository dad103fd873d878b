package coolkey

import (
	"slices"

	ck "inkan/apdu/coolkey"
)

// The object heap is a chunk of memory with blocks cut from the ends of free
// ones, so that free memory, and when it runs out, are those of the real applet
// (coolkey-applet.md §9).
const (
	blockNode  = 2              // length of an allocated block
	freeNode   = 4              // length and link of a free block
	allocation = 14 + blockNode // what an object costs beyond its size
)

// heap holds the objects, oldest first.
type heap struct {
	Size    int
	Objects []*object
}

// object is one object in its block.
type object struct {
	ID     ck.ObjectID
	ACL    ck.ObjectACL
	Data   []byte
	Offset int // of the block
	Block  int // size of the block
	Seq    uint32
}

// span is a free block.
type span struct{ offset, size int }

func (h *heap) byOffset() []*object {
	blocks := slices.Clone(h.Objects)
	slices.SortFunc(blocks, func(a, b *object) int { return a.Offset - b.Offset })
	return blocks
}

// free lists the free blocks in the order of their addresses, as if without were
// not there.
func (h *heap) free(without *object) []span {
	var spans []span
	at := 0
	for _, o := range h.byOffset() {
		if o == without {
			continue
		}
		if o.Offset > at {
			spans = append(spans, span{at, o.Offset - at})
		}
		at = o.Offset + o.Block
	}
	if at < h.Size {
		spans = append(spans, span{at, h.Size - at})
	}
	return spans
}

// available is the free memory as the applet reports it.
func (h *heap) available() int {
	n := 0
	for _, s := range h.free(nil) {
		n += max(0, s.size-blockNode)
	}
	return n
}

// place finds room for size bytes, as if without were not there.
func (h *heap) place(size int, without *object) (block span, ok bool) {
	need := size + allocation
	for _, s := range h.free(without) {
		if s.size < need {
			continue
		}
		if s.size-need < freeNode { // too little to be a block of its own
			return s, true
		}
		return span{s.offset + s.size - need, need}, true
	}
	return span{}, false
}

// add creates an object of zeros in block.
func (h *heap) add(o ck.ObjectInfo, block span) {
	seq := uint32(1)
	if n := len(h.Objects); n > 0 {
		seq = h.Objects[n-1].Seq + 1
	}
	h.Objects = append(h.Objects, &object{
		ID: o.ID, ACL: o.ACL, Data: make([]byte, o.Size), Offset: block.offset, Block: block.size, Seq: seq,
	})
}

func (h *heap) find(id ck.ObjectID) *object {
	i := slices.IndexFunc(h.Objects, func(o *object) bool { return o.ID == id })
	if i < 0 {
		return nil
	}
	return h.Objects[i]
}

// remove frees an object; its bytes are cleared.
func (h *heap) remove(gone *object) {
	clear(gone.Data)
	h.Objects = slices.DeleteFunc(h.Objects, func(o *object) bool { return o == gone })
}

// olderThan is the newest object that is older than seq; 0 = the newest of all.
func (h *heap) olderThan(seq uint32) *object {
	for _, o := range slices.Backward(h.Objects) {
		if seq == 0 || o.Seq < seq {
			return o
		}
	}
	return nil
}
