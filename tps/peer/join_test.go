package peer_test

import (
	"testing"

	"inkan/tps/peer"
)

// TestJoin: invite, join, a call over mutual TLS in the direction that roles allow.
func TestJoin(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	text, err := p.get(k, "/tks/v1/random")
	must(t, err)
	same(t, "answer", text, "tps1.example to tks1.example")
	_, err = k.get(p, "/tps/tps")
	refused(t, "a key service calls", err, peer.ErrRole)
}
