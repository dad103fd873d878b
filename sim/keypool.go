package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"sync"

	"inkan/sim/gp"
)

// KeyPool hands out RSA keys from a fixed list, because making one takes seconds.
// It goes round: the same key comes again. For tests only. Keys of elliptic
// curves are made fresh. Safe for concurrent use.
type KeyPool struct {
	mu   sync.Mutex
	keys map[int][]*rsa.PrivateKey
	next map[int]int
}

var _ gp.KeyMaker = (*KeyPool)(nil)

// NewKeyPool returns a pool of the keys given; they are not copied.
func NewKeyPool(keys ...*rsa.PrivateKey) *KeyPool {
	p := &KeyPool{keys: map[int][]*rsa.PrivateKey{}, next: map[int]int{}}
	for _, k := range keys {
		n := k.N.BitLen()
		p.keys[n] = append(p.keys[n], k)
	}
	return p
}

// RSA implements gp.KeyMaker. It fails where the pool has no key of the size.
func (p *KeyPool) RSA(bits int) (*rsa.PrivateKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.keys[bits]
	if len(list) == 0 {
		return nil, fmt.Errorf("key pool: no RSA key of %d bits", bits)
	}
	k := list[p.next[bits]%len(list)]
	p.next[bits]++
	return k, nil
}

// EC implements gp.KeyMaker.
func (p *KeyPool) EC(c elliptic.Curve) (*ecdsa.PrivateKey, error) { return gp.FreshKeys{}.EC(c) }
