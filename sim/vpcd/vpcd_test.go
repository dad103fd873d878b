package vpcd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/sim"
	"inkan/sim/vpcd"
)

// driver is the driver's end of the protocol, as the real one speaks it: length
// and payload in two segments.
type driver struct {
	t *testing.T
	l net.Listener
	net.Conn
}

func newDriver(t *testing.T) *driver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &driver{t: t, l: l}
}

func (d *driver) addr() string { return d.l.Addr().String() }

// accept waits for a card.
func (d *driver) accept() {
	d.t.Helper()
	d.l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	conn, err := d.l.Accept()
	if err != nil {
		d.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	d.t.Cleanup(func() { conn.Close() })
	d.Conn = conn
}

func (d *driver) send(payload ...byte) {
	d.t.Helper()
	head := binary.BigEndian.AppendUint16(nil, uint16(len(payload)))
	for _, part := range [][]byte{head, payload} {
		if _, err := d.Write(part); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *driver) receive() []byte {
	d.t.Helper()
	b, err := vpcd.ReadFrame(d.Conn)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func (d *driver) ask(payload ...byte) []byte {
	d.t.Helper()
	d.send(payload...)
	return d.receive()
}

// gone waits until the card has closed the connection.
func (d *driver) gone() {
	d.t.Helper()
	if _, err := d.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		d.t.Fatalf("connection still there: %v", err)
	}
}

// run serves card until the test ends, which must end the client without error.
func run(t *testing.T, c *vpcd.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var once sync.Once
	end := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(time.Minute):
				t.Error("Run does not end")
			}
		})
	}
	t.Cleanup(end)
	return end
}

func newCard(t *testing.T) *sim.Card {
	t.Helper()
	c, err := sim.New(sim.Config{Serial: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var (
	atr        = []byte{0x04}
	on         = []byte{0x01}
	selectNone = []byte{0x00, 0xA4, 0x04, 0x00, 0x05, 0xF0, 0x00, 0x00, 0x00, 0x01}
	cplc       = []byte{0x80, 0xCA, 0x9F, 0x7F, 0x00}
	status     = []byte{0x80, 0xF2, 0x80, 0x02, 0x02, 0x4F, 0x00, 0x00}
)

func TestInsertion(t *testing.T) {
	d, card := newDriver(t), newCard(t)
	var powered atomic.Int32
	stop := run(t, &vpcd.Client{Addr: d.addr(), Card: card, Powered: func() { powered.Add(1) }})
	d.accept()
	// What pcscd sends when a card appears: ATR, ATR, ON, ATR.
	for range 2 {
		if got := d.ask(atr...); !bytes.Equal(got, card.ATR()) {
			t.Fatalf("ATR %X, want %X", got, card.ATR())
		}
	}
	d.send(on...)
	d.ask(atr...)
	if n := powered.Load(); n != 1 {
		t.Errorf("powered %d times", n)
	}
	if got := d.ask(selectNone...); !bytes.Equal(got, []byte{0x6A, 0x82}) {
		t.Errorf("SELECT of an unknown application: %X", got)
	}
	if got := d.ask(cplc...); len(got) != 47 {
		t.Errorf("CPLC %X", got)
	}
	d.send(0x7F) // unknown code: no answer
	d.send(0x00)
	if got := d.ask(atr...); !bytes.Equal(got, card.ATR()) {
		t.Errorf("ATR without power: %X", got)
	}
	stop()
	d.gone()
}

func TestPowerClearsVolatileState(t *testing.T) {
	for name, control := range map[string][][]byte{
		"off":   {{0x00}, {0x01}},
		"reset": {{0x02}},
	} {
		t.Run(name, func(t *testing.T) {
			card := &recorder{Card: newCard(t)}
			d := newDriver(t)
			run(t, &vpcd.Client{Addr: d.addr(), Card: card})
			d.accept()
			d.send(on...)
			d.ask(atr...)
			before := card.resets.Load()
			for range 3 { // polls do not disturb
				d.ask(atr...)
			}
			if n := card.resets.Load(); n != before {
				t.Fatalf("asking for the ATR resets the card")
			}
			for _, c := range control {
				d.send(c...)
			}
			d.ask(atr...)
			if n := card.resets.Load(); n != before+1 {
				t.Errorf("%d resets, want 1", n-before)
			}
		})
	}
}

// recorder counts resets, and panics for INS FF.
type recorder struct {
	*sim.Card
	resets atomic.Int32
}

func (r *recorder) Reset(ctx context.Context) error {
	r.resets.Add(1)
	return r.Card.Reset(ctx)
}

func (r *recorder) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if cmd[1] == 0xFF {
		panic("a defect")
	}
	return r.Card.Transmit(ctx, cmd)
}

func TestPanicIsNoRemoval(t *testing.T) {
	d := newDriver(t)
	run(t, &vpcd.Client{Addr: d.addr(), Card: &recorder{Card: newCard(t)}})
	d.accept()
	if got := d.ask(0x00, 0xFF, 0x00, 0x00); !bytes.Equal(got, []byte{0x6F, 0x00}) {
		t.Errorf("answer %X", got)
	}
	if got := d.ask(selectNone...); !bytes.Equal(got, []byte{0x6A, 0x82}) {
		t.Errorf("afterwards %X", got)
	}
}

func TestReconnectsWhenTheDriverGoes(t *testing.T) {
	d, card := newDriver(t), &recorder{Card: newCard(t)}
	run(t, &vpcd.Client{Addr: d.addr(), Card: card})
	var before int32
	for range 3 {
		d.accept()
		d.ask(atr...)
		if card.resets.Load() == before {
			t.Error("connecting is not taken for power-on")
		}
		before = card.resets.Load() // the card connects again, and resets, before it is accepted
		d.Close()
	}
}

func TestBadFrameEndsTheInsertion(t *testing.T) {
	d := newDriver(t)
	run(t, &vpcd.Client{Addr: d.addr(), Card: newCard(t)})
	d.accept()
	d.Write([]byte{0x00, 0x00})
	d.gone()
	d.accept()
	d.ask(atr...)
}

func TestPulledCard(t *testing.T) {
	d, card := newDriver(t), newCard(t)
	run(t, &vpcd.Client{Addr: d.addr(), Card: card})
	d.accept()
	d.ask(atr...)
	card.Remove()
	d.gone()
	card.Insert()
	d.accept()
	card.Cut(1, sim.Before)
	d.send(status...)
	d.gone()
	card.Insert()
	d.accept()
	if got := d.ask(status...); !bytes.Equal(got, []byte{0x69, 0x82}) {
		t.Errorf("answer %X", got)
	}
}

func TestFailingCardEndsRun(t *testing.T) {
	d, card := newDriver(t), newCard(t)
	ended := make(chan error, 1)
	go func() { ended <- (&vpcd.Client{Addr: d.addr(), Card: unplugged{card}}).Run(t.Context()) }()
	d.accept()
	d.ask(atr...)
	card.Close()
	d.send(selectNone...)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a card that fails ends Run without an error")
		}
	case <-time.After(time.Minute):
		t.Error("Run goes on with a card that fails")
	}
}

// unplugged hides whether the card is in its reader.
type unplugged struct{ c *sim.Card }

func (u unplugged) ATR() apdu.ATR                   { return u.c.ATR() }
func (u unplugged) Reset(ctx context.Context) error { return u.c.Reset(ctx) }
func (u unplugged) Transmit(ctx context.Context, b []byte) ([]byte, error) {
	return u.c.Transmit(ctx, b)
}

func TestPatience(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := &vpcd.Client{Addr: addr, Card: newCard(t), Patience: 30 * time.Millisecond}
	if err := c.Run(t.Context()); !errors.Is(err, vpcd.ErrNoDriver) {
		t.Errorf("Run: %v", err)
	}
}

func TestFrameRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 65535} {
		var b bytes.Buffer
		if err := vpcd.WriteFrame(&b, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if got, err := vpcd.ReadFrame(&b); err != nil || len(got) != n {
			t.Errorf("%d bytes come back as %d, %v", n, len(got), err)
		}
	}
	for _, n := range []int{0, 65536} {
		if err := vpcd.WriteFrame(io.Discard, make([]byte, n)); err == nil {
			t.Errorf("payload of %d bytes written", n)
		}
	}
}

func FuzzVpcdFrameNoPanic(f *testing.F) {
	for _, s := range [][]byte{{0, 1, 4}, {0, 1, 1}, {0, 10, 0, 0xA4, 4, 0, 5, 0xA0, 0, 0, 3, 8}, {0, 0}, {0xFF, 0xFF, 1}, {0}} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := vpcd.ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := vpcd.WriteFrame(&out, payload); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, out.Bytes()) {
			t.Errorf("%X is written as %X", b, out.Bytes())
		}
	})
}
