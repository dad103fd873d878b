//go:build unix

package cli_test

import (
	"net"
	"testing"
	"time"

	"inkan/cli/server"
)

// TestRealArray: an array of a first node, one with keys alone and one without; cards
// are made through each, while nodes come and go.
func TestRealArray(t *testing.T) {
	f := newFleet(t)
	a := f.first(t, "a.array.test")
	b := a.join(t, "b.array.test", "tks")
	c := a.join(t, "c.array.test", "tps")
	if b.fingerprint != "" || c.fingerprint != a.fingerprint {
		t.Errorf("authorities %q, %q, %q", a.fingerprint, b.fingerprint, c.fingerprint)
	}
	a.run(t, "sim", "new", "--image", "card.img", "--serial", "1")
	c.operate(t, "format", "card.img")
	c.operate(t, "enroll", "card.img")

	t.Run("ports", func(t *testing.T) {
		if conn, err := net.DialTimeout("tcp", b.listen().Address, time.Second); err == nil {
			conn.Close()
			t.Error("a node with keys alone has a port for people")
		}
	})
	t.Run("lost", func(t *testing.T) {
		a.kill(t)
		c.operate(t, "enroll", "card.img")
		var st server.ArrayStatus
		c.refused(t, "unreachable", "array", "status")
		a.serve(t)
		if st = a.converged(t); len(st.Members) != 3 {
			t.Errorf("members %+v", st.Members)
		}
	})
	t.Run("detach", func(t *testing.T) {
		a.run(t, "array", "detach", "--peer", c.name)
		if r := c.card(t, "enroll", "card.img"); r.code != 1 {
			t.Errorf("a detached node goes on: %+v", r)
		}
		if st := a.converged(t); len(st.Members) != 2 {
			t.Errorf("members %+v", st.Members)
		}
	})
}
