package apdutest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
)

// brokenEnv names the broken card that TestBroken runs the suite on; without it
// that test does nothing.
const brokenEnv = "INKAN_TEST_BROKEN_CARD"

// transmitFunc is a function as a Card.
type transmitFunc func(ctx context.Context, cmd []byte) ([]byte, error)

func (f transmitFunc) Transmit(ctx context.Context, cmd []byte) ([]byte, error) { return f(ctx, cmd) }

// brokenCards each break one rule of apdu.Card.
func brokenCards() map[string]apdu.Card {
	good := &miniCard{}
	shared := make([]byte, 0, 300)
	return map[string]apdu.Card{
		"answers when cancelled": transmitFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
			return good.Transmit(context.Background(), cmd)
		}),
		"shares its answers": transmitFunc(func(ctx context.Context, cmd []byte) ([]byte, error) {
			b, err := good.Transmit(ctx, cmd)
			shared = append(shared[:0], b...)
			return shared, err
		}),
		"changes the command": transmitFunc(func(ctx context.Context, cmd []byte) ([]byte, error) {
			b, err := good.Transmit(ctx, cmd)
			clear(cmd)
			return b, err
		}),
		"drops the status": transmitFunc(func(ctx context.Context, cmd []byte) ([]byte, error) {
			b, err := good.Transmit(ctx, cmd)
			return b[:len(b)-2], err
		}),
		"knows every command": transmitFunc(func(ctx context.Context, cmd []byte) ([]byte, error) {
			b, err := good.Transmit(ctx, cmd)
			if err == nil && len(b) == 2 {
				b = []byte{0x90, 0x00}
			}
			return b, err
		}),
		"ignores the end of a list": struct {
			*miniCard
			deafLister
		}{good, deafLister{good}},
	}
}

// deafLister goes on after an error.
type deafLister struct{ card *miniCard }

func (d deafLister) TransmitAll(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	var out [][]byte
	for _, f := range frames {
		b, err := d.card.Transmit(ctx, f.Cmd)
		if err != nil {
			return out, err
		}
		out = append(out, b)
	}
	return out, nil
}

func TestBroken(t *testing.T) {
	card, ok := brokenCards()[os.Getenv(brokenEnv)]
	if !ok {
		return
	}
	apdutest.TestCard(t, func(*testing.T) apdu.Card { return card })
}

// TestSuiteFails: the suite finds every broken card. It runs in a process of its
// own, for a suite that fails fails its test.
func TestSuiteFails(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range brokenCards() {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBroken$")
		cmd.Env = append(os.Environ(), brokenEnv+"="+name)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("card that %s passes the suite:\n%s", name, out)
		}
	}
}
