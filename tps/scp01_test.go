package tps_test

import (
	"bytes"
	"context"
	"testing"

	"inkan/apdu"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/token"
)

// oldCard is a card of Open Platform 2.0.1 as seen from outside: instead of card
// recognition data it answers what it is told to, and its answer to INITIALIZE
// UPDATE has a key index where later cards name the protocol.
type oldCard struct {
	*sim.Card
	recognition []byte
	sent        [][]byte
}

func (c *oldCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, bytes.Clone(cmd))
	if bytes.HasPrefix(cmd, []byte{0x80, 0xCA, 0x00, 0x66}) {
		return c.recognition, nil
	}
	answer, err := c.Card.Transmit(ctx, cmd)
	if err == nil && len(answer) == 30 && cmd[0] == 0x80 && cmd[1] == 0x50 {
		answer[11] = 0x00
	}
	return answer, err
}

// TestOpenPlatform201 runs the life of a card without recognition data, with the
// dialects of Dogtag's soft token: no Le after a C-MAC, the empty data field
// encrypted, the commands of Open Platform 2.0.1.
func TestOpenPlatform201(t *testing.T) {
	t.Parallel()
	for name, recognition := range map[string][]byte{
		"refused": {0x6A, 0x88}, "not recognition data": {0x90, 0x00}, "something else": {0x53, 0x01, 0x07, 0x90, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(ecProfile("test", map[string]string{
				`set = "site"`: `set = "des"`, "[applet]": "[compat]\nno_le = true\nempty_field = true\n[applet]",
			}))
			card := &oldCard{Card: newCard(t, "gp-scp01"), recognition: recognition}
			for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset, tps.OpKeyChangeover, tps.OpFormat} {
				if _, err := s.run(op, card); err != nil {
					t.Fatalf("%s: %v", op, err)
				}
			}
			ts, err := s.db.Tokens(t.Context(), token.Filter{})
			must(t, err)
			if len(ts) != 1 || ts[0].KeySet != "des" || !bytes.Equal(ts[0].KeyInfo, []byte{2, 1}) {
				t.Errorf("records %+v", ts)
			}
			card.check(t)
		})
	}
}

// check looks at the commands under secure messaging.
func (c *oldCard) check(t *testing.T) {
	t.Helper()
	seen := map[byte]int{}
	for _, raw := range c.sent {
		cmd, err := apdu.ParseCommand(raw)
		if err != nil || raw[0] != 0x84 {
			continue
		}
		seen[cmd.INS]++
		switch {
		case cmd.Ne != 0:
			t.Errorf("Le after a C-MAC: % X", raw)
		case cmd.INS == 0xE4 && cmd.P2 != 0, cmd.INS == 0xE6 && cmd.P1 != 0x02 && cmd.P1 != 0x0C:
			t.Errorf("not a command of Open Platform 2.0.1: % X", raw)
		case len(cmd.Data) < 16:
			t.Errorf("empty field not encrypted: % X", raw)
		}
	}
	for _, ins := range []byte{0x82, 0xE4, 0xE6, 0xE8, 0xD8} {
		if seen[ins] == 0 {
			t.Errorf("no command %02X was sent", ins)
		}
	}
}
