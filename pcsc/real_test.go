//go:build cgo && linux

package pcsc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/pcsc"
	"inkan/sim"
	"inkan/sim/vpcd/vpcdtest"
)

// vcard is a card at the far end of the vpcd protocol. It answers AA… commands
// with a counter of the commands since power-on, BB <Ne> with that many bytes, DD
// by leaving, everything else with its own data and 9000.
type vcard struct {
	conn net.Conn
	atr  []byte

	mu    sync.Mutex
	count byte
	sent  int
}

func dial(t *testing.T, addr string, atr []byte) *vcard {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &vcard{conn: conn, atr: atr}
	go c.serve()
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *vcard) commands() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

func (c *vcard) serve() {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return
		}
		if raw, err := c.conn.(*net.TCPConn).SyscallConn(); err == nil { // see Nagle's delay on the other side
			_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
		}
		msg := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(c.conn, msg); err != nil {
			return
		}
		if res := c.answer(msg); res != nil {
			frame := binary.BigEndian.AppendUint16(nil, uint16(len(res)))
			if _, err := c.conn.Write(append(frame, res...)); err != nil {
				return
			}
		}
	}
}

func (c *vcard) answer(msg []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(msg) == 1 && msg[0] == 4:
		return c.atr
	case len(msg) == 1:
		c.count = 0
		return nil
	}
	c.sent++
	switch msg[0] {
	case 0xDD:
		c.conn.Close()
		return nil
	case 0xAA:
		c.count++
		return []byte{c.count, 0x90, 0x00}
	case 0xBB:
		cmd, err := apdu.ParseCommand(msg)
		if err != nil {
			return []byte{0x67, 0x00}
		}
		return append(bytes.Repeat([]byte{0xBB}, min(cmd.Ne, 65533)), 0x90, 0x00)
	}
	cmd, err := apdu.ParseCommand(msg)
	if err != nil {
		return []byte{0x67, 0x00}
	}
	return append(bytes.Clone(cmd.Data), 0x90, 0x00)
}

// rig is a real pcscd with two slots, the service on it and a watch.
type rig struct {
	daemon  *vpcdtest.Daemon
	service *pcsc.Service
	watch   *watched
	reader  string // name of the first slot
}

// TestReal drives the machine's real pcscd with virtual readers. It is one test,
// because the library finds its service once per process.
func TestReal(t *testing.T) {
	daemon := vpcdtest.Start(t, 2)
	daemon.Setenv(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{daemon: daemon, service: openReal(t), reader: daemon.Readers[0]}
	r.watch = watchFake(t, ctx, r.service)
	r.expect(t, "reader added "+r.reader, "reader added "+daemon.Readers[1])
	_, err := r.service.Connect(t.Context(), r.reader)
	wantError(t, err, pcsc.ErrNoCard)

	t.Run("exchange", r.testExchange)
	t.Run("removal", r.testRemoval)
	t.Run("t0", r.testT0)
	t.Run("mute", r.testMute)
	t.Run("conformance", r.testConformance)

	began := time.Now()
	cancel()
	<-r.watch.done
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("the watch took %s to end", d)
	}
	for len(r.watch.lines) > 0 {
		t.Errorf("further event %q", <-r.watch.lines)
	}
}

// openReal opens the service as soon as pcscd has its readers.
func openReal(t *testing.T) *pcsc.Service {
	t.Helper()
	s, err := pcsc.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for range 3000 {
		r, err := s.Readers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(r) == 2 {
			return s
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("pcscd shows no readers")
	return nil
}

// expect waits for exactly these events.
func (r *rig) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case l := <-r.watch.lines:
			got = append(got, l)
		case <-time.After(time.Minute):
			t.Fatalf("reported %q, want %q", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("reported %q, want %q", got, want)
	}
}

// insert puts a card into the first slot and waits until that is reported.
func (r *rig) insert(t *testing.T, atr apdu.ATR) *vcard {
	t.Helper()
	card := dial(t, r.daemon.Addr(0), atr)
	r.expect(t, "card inserted "+r.reader+" "+atr.String())
	return card
}

// remove pulls the card and waits until that is reported.
func (r *rig) remove(t *testing.T, card *vcard) {
	t.Helper()
	card.conn.Close()
	r.expect(t, "card removed "+r.reader)
}

func (r *rig) connect(t *testing.T) *pcsc.Conn {
	t.Helper()
	c, err := r.service.Connect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func transmit(t *testing.T, c *pcsc.Conn, cmd ...byte) []byte {
	t.Helper()
	res, err := c.Transmit(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *rig) testExchange(t *testing.T) {
	card := r.insert(t, atr)
	c := r.connect(t)
	if c.Reader() != r.reader || c.ATR().String() != atr.String() {
		t.Errorf("reader %s, ATR %s", c.Reader(), c.ATR())
	}
	if res := transmit(t, c, 0xAA, 0, 0, 0); !bytes.Equal(res, []byte{1, 0x90, 0}) {
		t.Errorf("response %X", res)
	}
	transmit(t, c, 0xAA, 0, 0, 0)
	if err := c.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := transmit(t, c, 0xAA, 0, 0, 0); res[0] != 1 {
		t.Errorf("card kept its state over a reset: %X", res)
	}
	long := apdu.Command{Data: bytes.Repeat([]byte{0xCD}, 65000), Ne: apdu.MaxExtendedNe}
	b, err := long.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if res := transmit(t, c, b...); len(res) != 65002 || !bytes.Equal(res[:65000], long.Data) {
		t.Errorf("%d bytes came back", len(res))
	}
	if res := transmit(t, c, 0xBB, 0, 0, 0, 0, 0, 0); len(res) != 65535 {
		t.Errorf("%d bytes came back", len(res))
	}
	_, err = r.service.Connect(t.Context(), r.reader)
	wantError(t, err, pcsc.ErrInUse)
	readers, err := r.service.Readers(t.Context())
	if err != nil || readers[0].State != pcsc.InUse || readers[1].State != pcsc.Empty {
		t.Errorf("readers %+v, %v", readers, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := r.connect(t)
	if res := transmit(t, again, 0xAA, 0, 0, 0); res[0] != 1 {
		t.Errorf("card kept its state over a connection: %X", res)
	}
	r.remove(t, card)
}

func (r *rig) testRemoval(t *testing.T) {
	card := r.insert(t, atr)
	c := r.connect(t)
	transmit(t, c, 0xAA, 0, 0, 0)
	card.conn.Close()
	_, err := c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0}) // before the service has noticed
	wantError(t, err, apdu.ErrCardRemoved)
	r.expect(t, "card removed "+r.reader)
	next := r.insert(t, atr)
	_, err = c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0})
	wantError(t, err, apdu.ErrCardRemoved)
	wantError(t, c.Reset(t.Context()), apdu.ErrCardRemoved)
	if n := next.commands(); n != 0 {
		t.Errorf("the next card was sent %d commands", n)
	}
	r.remove(t, next)
	if err := c.Close(); err != nil { // else the service keeps the reader for it
		t.Error(err)
	}
	working := r.insert(t, atr)
	c = r.connect(t)
	_, err = c.Transmit(t.Context(), []byte{0xDD, 0, 0, 0}) // the card leaves while it works
	wantError(t, err, apdu.ErrCardRemoved)
	r.remove(t, working)
}

func (r *rig) testT0(t *testing.T) {
	t0 := apdu.ATR{0x3B, 0x00}
	card := r.insert(t, t0)
	c := r.connect(t)
	if res := transmit(t, c, 0, 0xA4, 4, 0, 2, 0xA0, 0, 0); !bytes.Equal(res, []byte{0xA0, 0, 0x90, 0}) {
		t.Errorf("response %X", res)
	}
	_, err := c.Transmit(t.Context(), []byte{0, 0xCA, 0, 0, 0, 0, 0})
	wantError(t, err, apdu.ErrUnsupported)
	if _, err := c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0}); err != nil {
		t.Errorf("after a refused command: %v", err)
	}
	r.remove(t, card)
}

// testMute: a card with a damaged ATR cannot be powered up.
func (r *rig) testMute(t *testing.T) {
	card := dial(t, r.daemon.Addr(0), []byte{0x00, 0x00})
	select {
	case l := <-r.watch.lines:
		if !strings.HasPrefix(l, "card ") || strings.HasPrefix(l, "card removed") {
			t.Errorf("reported %q", l)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing reported")
	}
	if _, err := r.service.Connect(t.Context(), r.reader); !errors.Is(err, pcsc.ErrMute) {
		t.Errorf("error %v", err)
	}
	r.remove(t, card)
}

// testConformance runs the suite of every apdu.Card on a software card behind pcscd.
func (r *rig) testConformance(t *testing.T) {
	card, err := sim.New(sim.Config{Model: "gp-scp03"})
	if err != nil {
		t.Fatal(err)
	}
	unplug := r.daemon.Plug(t, 0, card)
	r.expect(t, "card inserted "+r.reader+" "+card.ATR().String())
	apdutest.TestCard(t, func(t *testing.T) apdu.Card { return r.connect(t) })
	unplug()
	r.expect(t, "card removed "+r.reader)
}

// TestRealNoService asks for a service that is not there, in a process of its own.
func TestRealNoService(t *testing.T) {
	vpcdtest.Need(t)
	if os.Getenv("PCSC_TEST_CHILD") == "1" {
		_, err := pcsc.Open(t.Context())
		if !errors.Is(err, pcsc.ErrNoService) || !strings.Contains(err.Error(), "pcscd") {
			t.Errorf("error %v", err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealNoService$", "-test.v")
	cmd.Env = append(os.Environ(), "PCSC_TEST_CHILD=1", "PCSCLITE_CSOCK_NAME="+filepath.Join(t.TempDir(), "none"))
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestRealNoService")) {
		t.Errorf("%v\n%s", err, out)
	}
}
