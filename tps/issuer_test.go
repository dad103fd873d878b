package tps_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/sim"
	"inkan/tps"
)

const phoneHome = "https://tps.example.org:8443/tps/phoneHome"

// issuerOnCard is the address that anybody reads from a card.
func issuerOnCard(t *testing.T, card apdu.Card) string {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	text, err := coolkey.ReadIssuerInfo(t.Context(), conn)
	must(t, err)
	return text
}

// watched is a card that notes the instructions it gets, and may hide what it
// holds of its issuer.
type watched struct {
	*sim.Card
	ins    []byte
	forget bool
}

func (w *watched) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	w.ins = append(w.ins, cmd[1])
	answer, err := w.Card.Transmit(ctx, cmd)
	if w.forget && cmd[0] == 0xB0 && cmd[1] == 0xF6 && len(answer) > 2 {
		clear(answer[:len(answer)-2])
	}
	return answer, err
}

func (w *watched) wrote() bool { return slices.Contains(w.ins, 0xF4) }

// TestIssuer: the address is written at format, anew by an enrollment whose
// profile has another one, and by nothing else.
func TestIssuer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{phoneHome: "https://tps.example.org/home/$pretty_cuid$?profile=$profileId$&n=$$"}))
	card := &watched{Card: newCard(t, "gp-scp03")}
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	cuid := onlyToken(t, s)
	want := "https://tps.example.org/home/" + cuid.Pretty() + "?profile=test&n=$"
	if got := issuerOnCard(t, card); got != want {
		t.Errorf("after format: %q, want %q", got, want)
	}
	for _, c := range []struct {
		op      tps.Operation
		address string
		wrote   bool
		want    string
	}{
		{tps.OpEnroll, "", false, want},
		{tps.OpEnroll, phoneHome, true, phoneHome},
		{tps.OpEnroll, "", false, phoneHome},
		{tps.OpPINReset, "https://other.example.org/", false, phoneHome},
	} {
		if c.address != "" {
			s.put(ecProfile("test", map[string]string{phoneHome: c.address}))
		}
		card.ins = nil
		_, err := s.run(c.op, card)
		must(t, err)
		if got := issuerOnCard(t, card); got != c.want || card.wrote() != c.wrote {
			t.Errorf("%s with %q: the card holds %q, written %t", c.op, c.address, got, card.wrote())
		}
	}
}

// TestIssuerReadBack: an address that the card does not hold is a failure, except
// for cards that cannot be asked.
func TestIssuerReadBack(t *testing.T) {
	t.Parallel()
	for _, readBack := range []bool{true, false} {
		s := newSite(t)
		doc := ecProfile("test", nil)
		if !readBack {
			doc = strings.Replace(doc, "[[key]]", "[compat]\nread_back = false\n[[key]]", 1)
		}
		s.put(doc)
		card := &watched{Card: newCard(t, "gp-scp03"), forget: true}
		_, err := s.run(tps.OpFormat, card)
		if !readBack {
			must(t, err)
			continue
		}
		wantStatus(t, err, tps.StatusApplet)
		if !strings.Contains(err.Error(), phoneHome) {
			t.Errorf("%v does not name the address", err)
		}
		card.forget = false
		_, err = s.run(tps.OpFormat, card)
		must(t, err)
	}
}

// TestIssuerFull: an address of as many bytes as the card holds.
func TestIssuerFull(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{phoneHome: "https://tps.example.org/" + strings.Repeat("$msn$", 24) + strings.Repeat("x", 8)}))
	card := &watched{Card: newCard(t, "gp-scp03")}
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	if got := issuerOnCard(t, card); len(got) != coolkey.IssuerInfoLen {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// TestDEF52: a profile without an issuer's address is served; nothing is written.
func TestDEF52(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{phoneHome: ""}))
	card := &watched{Card: newCard(t, "gp-scp03")}
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll} {
		_, err := s.run(op, card)
		must(t, err)
	}
	if got := issuerOnCard(t, card); got != "" || card.wrote() {
		t.Errorf("the card holds %q, written %t", got, card.wrote())
	}
}
