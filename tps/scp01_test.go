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
// recognition data, and key information where it has none, it answers what it is
// told to, and its answer to INITIALIZE UPDATE has a key index where later cards
// name the protocol.
type oldCard struct {
	*sim.Card
	recognition []byte
	noKeyInfo   bool
	sent        [][]byte
}

func (c *oldCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, bytes.Clone(cmd))
	if bytes.HasPrefix(cmd, []byte{0x80, 0xCA, 0x00, 0x66}) || c.noKeyInfo && len(cmd) == 5 && cmd[1] == 0xCA && cmd[3] == 0xE0 {
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
	softToken := []byte{0x01, 0x00, 0x01, 0xA0, 0x01, 0x92, 0x03, 0x90, 0x00} // the beginning of its CPLC
	for name, c := range map[string]struct {
		recognition []byte
		noKeyInfo   bool
	}{
		"refused": {[]byte{0x6A, 0x88}, false}, "both refused": {[]byte{0x6A, 0x88}, true}, "not recognition data": {[]byte{0x90, 0x00}, false},
		"something else": {[]byte{0x53, 0x01, 0x07, 0x90, 0x00}, false}, "the same to all": {softToken, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(ecProfile("test", map[string]string{
				`set = "site"`: `set = "des"`, "[applet]": "[compat]\nno_le = true\nempty_field = true\n[applet]",
			}))
			card := &oldCard{Card: newCard(t, "gp-scp01"), recognition: c.recognition, noKeyInfo: c.noKeyInfo}
			for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpRenew, tps.OpPINReset, tps.OpKeyChangeover, tps.OpFormat} {
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
