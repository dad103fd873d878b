package peer_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"inkan/tps/peer"
)

func (b *box) serial() string {
	c, _ := b.Certificate()
	return c.SerialNumber.Text(16)
}

// TestRenewal: every node gets another certificate two thirds through the life of the
// one it has, for another key.
func TestRenewal(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	c, renews := k.Certificate()
	life := c.NotAfter.Sub(c.NotBefore)
	if at := renews.Sub(c.NotBefore); at < life*2/3 || at > life*2/3+life/20 {
		t.Errorf("renewed after %s of %s", at, life)
	}
	old := []string{p.serial(), k.serial()}
	stop := load(t, []*box{p}, []*box{k}, "/tks/v1/random")
	p.clock.forward(life*2/3 - 2*time.Hour)
	p.converged()
	same(t, "too early", k.serial(), old[1])
	p.clock.forward(life/20 + 2*time.Hour)
	until(t, func() bool { return p.serial() != old[0] && k.serial() != old[1] }, func() string { return "not renewed" })
	p.converged()
	stop()
	if n, _ := k.Certificate(); string(n.RawSubjectPublicKeyInfo) == string(c.RawSubjectPublicKeyInfo) {
		t.Error("the key is the old one")
	}
	p.restart()
	k.restart()
	p.converged()
	m, err := p.member(k)
	must(t, err)
	same(t, "certificates on record", len(m.Certificates), 2)
	same(t, "the latest", m.Certificates[1].Serial, k.serial())
}

// TestPrimaryDown: peers work on until their certificates expire, and say why they do
// not renew.
func TestPrimaryDown(t *testing.T) {
	t.Parallel()
	p, q, k := three(t)
	p.halt()
	c, _ := k.Certificate()
	p.clock.forward(126 * time.Hour)
	until(t, func() bool { return report(t, q, "tks1.example").Renewal != "" }, func() string { return "no failure is reported" })
	_, err := q.get(k, "/tks/v1/random")
	must(t, err)
	st, err := q.Status(t.Context())
	must(t, err)
	same(t, "status", st.Word, peer.Unreachable)
	p.clock.forward(3 * 24 * time.Hour)
	until(t, func() bool {
		p.clock.forward(time.Minute) // kept connections may linger
		_, err = q.get(k, "/tks/v1/random")
		return errors.Is(err, peer.ErrExpired) || errors.Is(err, peer.ErrNotAccepted)
	}, func() string { return fmt.Sprintf("call with an expired certificate: %v", err) })
	// The primary comes back, renews its own, and finds the others lost; they join again.
	p.run()
	for _, b := range []*box{q, k} {
		until(t, func() bool { m, err := p.member(b); return err == nil && m.State == peer.Lost }, func() string { return b.cfg.Name + " is not lost" })
		must(t, b.ask(p, peer.JoinOptions{}))
		p.converged()
		if n, _ := b.Certificate(); !n.NotAfter.After(c.NotAfter) {
			t.Error("still the old certificate")
		}
	}
	_, err = q.get(k, "/tks/v1/random")
	must(t, err)
}

// TestRenewalWarnings: when a renewal fails for long, the log says so at 50, 25 and 10
// per cent and at the end, once each.
func TestRenewalWarnings(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := newBox(t, "tks1.example", peer.TKS)
	k.clock = p.clock
	var log lines
	k.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	k.open()
	must(t, k.ask(p, peer.JoinOptions{}))
	k.run()
	p.converged()
	p.halt()
	c, _ := k.Certificate()
	life := c.NotAfter.Sub(c.NotBefore)
	passed := time.Duration(0)
	for _, at := range []struct {
		percent time.Duration
		want    string
	}{{75, "percent_left=24"}, {91, "percent_left=8"}, {101, "has expired: join the array again"}} {
		p.clock.forward(life*at.percent/100 - passed)
		passed = life * at.percent / 100
		until(t, func() bool { return log.count(at.want) == 1 }, func() string { return at.want + " is not in the log" })
	}
	until(t, func() bool { return log.count("percent_left") == 2 }, func() string { return "warned too often" })
}

// lines takes a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

func report(t *testing.T, by *box, name string) peer.Report {
	t.Helper()
	st, err := by.Status(t.Context())
	must(t, err)
	for _, m := range st.Members {
		if m.Member.Name == name {
			return m.Report
		}
	}
	return peer.Report{}
}

// TestWrongTime: a node whose clock goes wrong later is shown, and refused by what
// its dates say.
func TestWrongTime(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	k.follow(&clock{by: 20 * time.Second})
	st := p.converged()
	for _, m := range st.Members {
		if want := time.Duration(0); m.Member.Name == "tks1.example" && (m.Offset-20*time.Second).Abs() > 5*time.Second {
			t.Errorf("clock offset %s, want about 20 s", m.Offset)
		} else if m.Member.Name != "tks1.example" {
			same(t, "own offset", m.Offset, want)
		}
	}
	for by, want := range map[time.Duration]error{30 * 24 * time.Hour: peer.ErrExpired, -30 * 24 * time.Hour: peer.ErrNotYetValid} {
		var err error
		until(t, func() bool {
			by += time.Minute // kept connections may linger
			k.follow(&clock{by: by})
			_, err = k.get(p, "/array/v1/status")
			return errors.Is(err, want)
		}, func() string { return fmt.Sprintf("call from another time: %v, want %v", err, want) })
	}
	k.follow(p.clock)
	_, err := k.get(p, "/array/v1/status")
	must(t, err)
}

// TestMoved: a node with another address or version tells the array.
func TestMoved(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	for _, b := range []*box{k, p} {
		b.halt()
		b.cfg.Address, b.cfg.Version = freeAddress(t), "1.2.4"
		b.open()
		b.run()
		if b == p { // whom nobody can find: it calls the others
			until(t, func() bool { m, err := k.member(p); return err == nil && m.Version == "1.2.4" }, func() string { return "the member knows nothing" })
		}
		st := p.converged()
		for _, m := range st.Members {
			if m.Member.Name == b.cfg.Name {
				same(t, "address", m.Member.Address, b.cfg.Address)
				same(t, "version", m.Member.Version, "1.2.4")
			}
		}
	}
}
