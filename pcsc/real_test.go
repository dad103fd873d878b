//go:build cgo && linux

package pcsc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/pcsc"
)

const (
	pcscdPath  = "/usr/sbin/pcscd"
	driverPath = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
	realReader = "Inkan Test 00 00"
)

// startPCSCD runs a private pcscd with one virtual reader of two slots and makes
// it the service of this process. It returns the port of the first slot.
func startPCSCD(t *testing.T) int {
	t.Helper()
	dir := t.TempDir()
	port := freePair(t)
	conf := fmt.Sprintf("FRIENDLYNAME \"Inkan Test\"\nDEVICENAME /dev/null:%d\nLIBPATH %s\n", port, driverPath)
	if err := os.WriteFile(filepath.Join(dir, "reader"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	fd, err := l.File() // becomes descriptor 3, as a service manager would hand it over
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --foreground -c "$1"`, pcscdPath, dir)
	cmd.ExtraFiles = []*os.File{fd}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pcscd:\n%s", out.String())
		}
	})
	if err := os.Setenv("PCSCLITE_CSOCK_NAME", socket); err != nil { // read by the library once, at its first use
		t.Fatal(err)
	}
	return port
}

// freePair finds a port that is free together with the next one.
func freePair(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp4", "0.0.0.0:"+strconv.Itoa(port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two adjacent free ports")
	return 0
}

// vcard is a card at the far end of the vpcd protocol. It answers AA… commands
// with a counter of the commands since power-on, BB <Ne> with that many bytes,
// everything else with its own data and 9000.
type vcard struct {
	conn net.Conn
	atr  []byte

	mu    sync.Mutex
	count byte
	sent  int
}

func insertCard(t *testing.T, port int, atr []byte) *vcard {
	t.Helper()
	var conn net.Conn
	var err error
	for range 500 {
		if conn, err = net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &vcard{conn: conn, atr: atr}
	go c.serve()
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *vcard) remove() { c.conn.Close() }

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

// TestReal drives the machine's real pcscd with a virtual reader.
func TestReal(t *testing.T) {
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs pcscd and vsmartcard-vpcd; set INKAN_REAL=1")
	}
	for _, path := range []string{pcscdPath, driverPath} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("install pcscd and vsmartcard-vpcd: %v", err)
		}
	}
	port := startPCSCD(t)
	s := openReal(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := watchFake(t, ctx, s)
	expect(t, w, "reader added Inkan Test 00 00", "reader added Inkan Test 00 01")
	_, err := s.Connect(t.Context(), realReader)
	wantError(t, err, pcsc.ErrNoCard)

	t.Run("exchange", func(t *testing.T) {
		card := insertCard(t, port, atr)
		expect(t, w, "card inserted "+realReader+" "+atr.String())
		testRealExchange(t, s, card)
		card.remove()
		expect(t, w, "card removed "+realReader)
	})
	t.Run("removal", func(t *testing.T) { testRealRemoval(t, s, w, port) })
	t.Run("t0", func(t *testing.T) { testRealT0(t, s, w, port) })
	t.Run("mute", func(t *testing.T) { testRealMute(t, s, w, port) })

	began := time.Now()
	cancel()
	<-w.done
	if d := time.Since(began); d > time.Second {
		t.Errorf("the watch took %s to end", d)
	}
	if lines := w.rest(); len(lines) > 0 {
		t.Errorf("further events %q", lines)
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
	for range 100 {
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
func expect(t *testing.T, w *watched, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case l := <-w.lines:
			got = append(got, l)
		case <-time.After(5 * time.Second):
			t.Fatalf("reported %q, want %q", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("reported %q, want %q", got, want)
	}
}

func (w *watched) rest() (out []string) {
	for len(w.lines) > 0 {
		out = append(out, <-w.lines)
	}
	return out
}

func connectReal(t *testing.T, s *pcsc.Service) *pcsc.Conn {
	t.Helper()
	c, err := s.Connect(t.Context(), "")
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

func testRealExchange(t *testing.T, s *pcsc.Service, card *vcard) {
	c := connectReal(t, s)
	if c.Reader() != realReader || c.ATR().String() != atr.String() {
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
	_, err = s.Connect(t.Context(), realReader)
	wantError(t, err, pcsc.ErrInUse)
	r, err := s.Readers(t.Context())
	if err != nil || r[0].State != pcsc.InUse || r[1].State != pcsc.Empty {
		t.Errorf("readers %+v, %v", r, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := connectReal(t, s)
	if res := transmit(t, again, 0xAA, 0, 0, 0); res[0] != 1 {
		t.Errorf("card kept its state over a connection: %X", res)
	}
}

func testRealRemoval(t *testing.T, s *pcsc.Service, w *watched, port int) {
	card := insertCard(t, port, atr)
	expect(t, w, "card inserted "+realReader+" "+atr.String())
	c := connectReal(t, s)
	transmit(t, c, 0xAA, 0, 0, 0)
	card.remove()
	_, err := c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0}) // before the service has noticed
	wantError(t, err, apdu.ErrCardRemoved)
	expect(t, w, "card removed "+realReader)
	next := insertCard(t, port, atr)
	expect(t, w, "card inserted "+realReader+" "+atr.String())
	_, err = c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0})
	wantError(t, err, apdu.ErrCardRemoved)
	wantError(t, c.Reset(t.Context()), apdu.ErrCardRemoved)
	if n := next.commands(); n != 0 {
		t.Errorf("the next card was sent %d commands", n)
	}
	next.remove()
	expect(t, w, "card removed "+realReader)
}

func testRealT0(t *testing.T, s *pcsc.Service, w *watched, port int) {
	t0 := apdu.ATR{0x3B, 0x00}
	card := insertCard(t, port, t0)
	expect(t, w, "card inserted "+realReader+" "+t0.String())
	c := connectReal(t, s)
	if res := transmit(t, c, 0, 0xA4, 4, 0, 2, 0xA0, 0, 0); !bytes.Equal(res, []byte{0xA0, 0, 0x90, 0}) {
		t.Errorf("response %X", res)
	}
	_, err := c.Transmit(t.Context(), []byte{0, 0xCA, 0, 0, 0, 0, 0})
	wantError(t, err, apdu.ErrUnsupported)
	if _, err := c.Transmit(t.Context(), []byte{0xAA, 0, 0, 0}); err != nil {
		t.Errorf("after a refused command: %v", err)
	}
	card.remove()
	expect(t, w, "card removed "+realReader)
}

// testRealMute: a card with a damaged ATR cannot be powered up.
func testRealMute(t *testing.T, s *pcsc.Service, w *watched, port int) {
	card := insertCard(t, port, []byte{0x00, 0x00})
	select {
	case l := <-w.lines:
		if !strings.HasPrefix(l, "card ") || strings.HasPrefix(l, "card removed") {
			t.Errorf("reported %q", l)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing reported")
	}
	if _, err := s.Connect(t.Context(), realReader); !errors.Is(err, pcsc.ErrMute) {
		t.Errorf("error %v", err)
	}
	card.remove()
	expect(t, w, "card removed "+realReader)
}

// TestRealNoService asks for a service that is not there, in a process of its own.
func TestRealNoService(t *testing.T) {
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs libpcsclite; set INKAN_REAL=1")
	}
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
