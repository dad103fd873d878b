//go:build cgo && linux

package bench_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/ebfe/scard"

	"inkan/apdu/gp/loadfile"
	"inkan/cli/manager"
	"inkan/pcsc"
	"inkan/sim"
	"inkan/sim/vpcd"
	"inkan/sim/vpcd/vpcdtest"
)

// measureReader sends commands to a software card through a real pcscd, by package
// pcsc and by a loop over the binding to the PC/SC library, and loads an applet
// under SCP03.
func measureReader(t *testing.T, s size, r results) {
	d := vpcdtest.Start(t, 1)
	d.Setenv(t)
	service, err := pcsc.Open(t.Context())
	must(t, err)
	defer service.Close()
	unplug := plug(t, d, service)
	connect(t, service, d.Readers[0]).Close()
	r.put("pcsc_ratio", "%.2f", readerRatio(t, s, service, d.Readers[0]))
	unplug()

	var all []time.Duration
	for range s.rounds {
		all = append(all, load(t, d, service))
	}
	r.put("load_s", "%.2f", median(all).Seconds())
}

// cplc is GET DATA for the CPLC.
var cplc = []byte{0x80, 0xCA, 0x9F, 0x7F, 0x00}

// readerRatio takes the card in turns, because whoever has it has it alone. Taking
// it is not measured.
func readerRatio(t *testing.T, s size, service *pcsc.Service, reader string) float64 {
	ctx, err := scard.EstablishContext()
	must(t, err)
	defer ctx.Release()
	var ours, bare []time.Duration
	for range max(1, s.turns/20) {
		c, err := service.Connect(t.Context(), reader)
		must(t, err)
		ours = append(ours, exchanges(t, func() error { _, err := c.Transmit(t.Context(), cplc); return err })...)
		must(t, c.Close())
		b, err := ctx.Connect(reader, scard.ShareExclusive, scard.ProtocolAny)
		must(t, err)
		bare = append(bare, exchanges(t, func() error { _, err := b.Transmit(cplc); return err })...)
		must(t, b.Disconnect(scard.ResetCard))
	}
	return float64(quartile(ours)) / float64(quartile(bare))
}

// exchanges are twenty turns of ten commands, and one before that does not count.
func exchanges(t *testing.T, send func() error) (turns []time.Duration) {
	for i := range 21 {
		took := timed(func() {
			for range 10 {
				must(t, send())
			}
		})
		if i > 0 {
			turns = append(turns, took)
		}
	}
	return turns
}

// plug puts a new card into the reader: a process of its own, so that what is
// measured is what a program with a reader does.
func plug(t *testing.T, d *vpcdtest.Daemon, service *pcsc.Service) (unplug func()) {
	t.Helper()
	awaitEmpty(t, service)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envSlot+"="+d.Addr(0))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	unplug = sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the card: %v", err)
		}
	})
	t.Cleanup(unplug)
	return unplug
}

// beCard is a new card in a slot until standard input ends.
func beCard(addr string) error {
	card, err := sim.New(sim.Config{Model: "gp-scp03"})
	if err != nil {
		return err
	}
	defer card.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		io.Copy(io.Discard, os.Stdin)
	}()
	return (&vpcd.Client{Addr: addr, Card: card}).Run(ctx)
}

// load loads and installs an applet of a real one's size on a new card.
func load(t *testing.T, d *vpcdtest.Daemon, service *pcsc.Service) time.Duration {
	defer plug(t, d, service)()
	c := connect(t, service, d.Readers[0])
	defer c.Close()
	file, err := loadfile.Parse(applet(t, realSize))
	must(t, err)
	m, err := manager.Open(t.Context(), c, manager.Config{Keys: manager.Factory()})
	must(t, err)
	defer m.Close()
	registry, err := m.List(t.Context())
	must(t, err)
	i, err := manager.Installation{File: file}.Complete(registry)
	must(t, err)
	return timed(func() { must(t, m.Install(t.Context(), i)) })
}

// awaitEmpty waits until the service has seen that there is no card.
func awaitEmpty(t *testing.T, service *pcsc.Service) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		all, err := service.Readers(t.Context())
		must(t, err)
		if len(all) > 0 && all[0].State == pcsc.Empty {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("readers %+v, want the first one empty", all)
		}
	}
}

// connect waits until the service has seen the card.
func connect(t *testing.T, service *pcsc.Service, reader string) *pcsc.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		c, err := service.Connect(ctx, reader)
		if err == nil {
			return c
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
