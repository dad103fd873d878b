package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"inkan/apdu"
)

// Chaos makes a card behave as the standards allow and hosts seldom expect: it
// splits answers with 61xx, asks for commands again with 6Cxx, puts unknown data
// objects into its FCI, and takes its time. The same seed makes the same trouble.
type Chaos struct {
	Seed     uint64
	MaxDelay time.Duration // longest pause before a command; 0 = none
	Remove   float64       // chance per exchange, 0 to 1, that the card is pulled, before or after it acted
}

// mischief is a Chaos at work.
type mischief struct {
	Chaos
	rnd *rand.Rand
}

func newMischief(c *Chaos) *mischief {
	if c == nil {
		return nil
	}
	return &mischief{*c, rand.New(rand.NewPCG(c.Seed, 0x494E4B41))}
}

// delay waits, or returns the context's error.
func (m *mischief) delay(ctx context.Context) error {
	if m == nil || m.MaxDelay <= 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(m.rnd.Int64N(int64(m.MaxDelay) + 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pull says whether and when the card leaves the reader in this exchange.
func (m *mischief) pull() (When, bool) {
	if m == nil || m.Remove <= 0 || m.rnd.Float64() >= m.Remove {
		return Before, false
	}
	if m.rnd.IntN(2) == 0 {
		return Before, true
	}
	return After, true
}

// finish disturbs an answer that fits as it is.
func (m *mischief) finish(t *transport, cmd apdu.Command, r apdu.Response) apdu.Response {
	n := len(r.Data)
	if m == nil || r.SW != apdu.SWSuccess || n == 0 || n > apdu.MaxShortNe {
		return t.finish(cmd, r)
	}
	switch m.rnd.IntN(4) {
	case 0:
		return t.hold(r, m.rnd.IntN(n))
	case 1:
		if !cmd.Secured() && cmd.Ne > n {
			return t.correct(cmd, r)
		}
	}
	return t.finish(cmd, r)
}

// round disturbs GET RESPONSE: fewer bytes than asked for.
func (m *mischief) round(cmd apdu.Command) apdu.Command {
	if m != nil && cmd.INS == insGetResponse && m.rnd.IntN(3) == 0 {
		cmd.Ne = 1 + m.rnd.IntN(max(cmd.Ne, 1))
	}
	return cmd
}
