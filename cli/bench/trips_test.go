//go:build cgo && linux

package bench_test

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net"
	"testing"
	"time"

	"inkan/apdu/apdutest"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/tps/wire"
)

// realSize is the size of the CoolKey applet that cards carry, bytes.
const realSize = 18000

func applet(t testing.TB, size int) []byte {
	t.Helper()
	b, err := fixtures.Applet(fixtures.DefaultApplet)
	must(t, err)
	b, err = apdutest.PadApplet(b, size)
	must(t, err)
	return b
}

// measureTrips formats and enrolls a card with an applet of a real one's size and
// two RSA keys, without and with batches: round trips, also where the format changes
// the card's keys, and how long it takes over a link with a long way.
func measureTrips(t *testing.T, s size, r results) {
	n := startNode(t, "trips", realSize)
	far := relay(t, n.Address, s.delay/2)
	k1, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	k2, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	card := func() sim.Config { return sim.Config{Model: "gp-scp03", Keys: sim.NewKeyPool(k1, k2)} }
	single, _ := life(t, n.client(n.Address), card(), profileRSA, 0)
	batched, _ := life(t, n.client(n.Address), card(), profileRSA, wire.DefaultBatch)
	r.put("trips_single", "%.0f", float64(single))
	r.put("trips_batch", "%.0f", float64(batched))
	r.put("trips_ratio", "%.1f", float64(single)/float64(batched))
	single, _ = life(t, n.client(n.Address), card(), profileRekeying, 0)
	batched, _ = life(t, n.client(n.Address), card(), profileRekeying, wire.DefaultBatch)
	r.put("trips_rekeying_ratio", "%.1f", float64(single)/float64(batched))
	_, slow := life(t, n.client(far), card(), profileRSA, 0)
	_, fast := life(t, n.client(far), card(), profileRSA, wire.DefaultBatch)
	r.put("wait100_single_s", "%.1f", slow.Seconds())
	r.put("wait100_batch_s", "%.1f", fast.Seconds())
}

// life formats and enrolls a new card.
func life(t *testing.T, cl *wire.Client, cfg sim.Config, profile string, batch int) (trips int, took time.Duration) {
	t.Helper()
	card, err := sim.New(cfg)
	must(t, err)
	defer card.Close()
	for _, op := range []wire.Operation{wire.Format, wire.Enroll} {
		res, err := wire.Run(t.Context(), cl, wire.Begin{Operation: op, Profile: profile, Batch: batch}, card, person{rand.Text()})
		must(t, err)
		trips, took = trips+res.Trips, took+res.Elapsed
	}
	return trips, took
}

// relay is a way to a server on which everything takes a while longer in each
// direction, also the opening of the connection.
func relay(t *testing.T, to string, oneWay time.Duration) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			go carry(far, near, oneWay, 2*oneWay) // SYN and SYN-ACK, before the first byte
			go carry(near, far, oneWay, 0)
		}
	}()
	return ln.Addr().String()
}

// carry copies, each piece after its delay, the first one after first more.
func carry(to, from net.Conn, delay, first time.Duration) {
	type piece struct {
		due  time.Time
		data []byte
	}
	under := make(chan piece, 1024)
	go func() {
		defer close(under)
		start := time.Now().Add(first)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			due := time.Now()
			if due.Before(start) {
				due = start
			}
			if n > 0 {
				under <- piece{due.Add(delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range under {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	to.Close()
	io.Copy(io.Discard, from)
}
