package apdu_test

import (
	"errors"
	"slices"
	"testing"

	"inkan/apdu"
)

func sel() apdu.Command { return apdu.Command{INS: 0xA4, P1: 4, Ne: 1} }

// limited takes lists of at most 7 commands.
type limited struct{ framesCard }

func (*limited) MaxFrames() int { return 7 }

func TestTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		card apdu.Card
		want int
	}{{&listCard{}, 1}, {&framesCard{}, 256}, {&limited{}, 7}} {
		conn := apdu.NewConn(c.card)
		if got := apdu.Together(conn); got != c.want {
			t.Errorf("%T: %d, want %d", c.card, got, c.want)
		}
		if got := apdu.Together(apdu.Behind(conn, sel())); got != c.want {
			t.Errorf("%T behind a SELECT: %d, want %d", c.card, got, c.want)
		}
	}
}

// What was read ahead is given in order; anything else goes to the card.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status map[byte]string
		ask    []byte
		lists  int // lists sent to the card
	}{
		{"all of them", nil, []byte{1, 2, 3}, 1},
		{"one more", nil, []byte{1, 2, 3, 4}, 2},
		{"fewer", nil, []byte{1}, 1},
		{"none", nil, []byte{4}, 2},
		{"out of order drops the rest", nil, []byte{1, 3, 2}, 3},
		{"behind the end", map[byte]string{2: "6A82"}, []byte{1, 2, 3}, 2},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			card := &framesCard{listCard: listCard{status: c.status}}
			d, err := apdu.ReadAhead(t.Context(), apdu.NewConn(card), list(1, 2, 3))
			if err != nil {
				t.Fatal(err)
			}
			for i, ins := range c.ask {
				e := list(ins)
				var r apdu.Response
				if i%2 == 0 {
					r, err = d.Do(t.Context(), e[0].Command)
				} else {
					var rs []apdu.Response
					if rs, err = apdu.DoAll(t.Context(), d, e); err == nil {
						r = rs[0]
					}
				}
				if err != nil || r.SW == apdu.SWSuccess && r.Data[0] != ins || (r.SW == apdu.SWSuccess) != (c.status[ins] == "") {
					t.Errorf("command %d: %+v, %v", ins, r, err)
				}
			}
			if got := card.lists + len(card.sent); got != c.lists {
				t.Errorf("%d lists and single commands, want %d", got, c.lists)
			}
		})
	}
}

func TestReadAheadOneByOne(t *testing.T) {
	t.Parallel()
	card := &listCard{}
	conn := apdu.NewConn(card)
	if d, err := apdu.ReadAhead(t.Context(), conn, list(1, 2)); err != nil || d != apdu.Doer(conn) || len(card.sent) != 0 {
		t.Errorf("%v, %v, sent %q", d, err, card.sent)
	}
	gone := &framesCard{listCard: listCard{status: map[byte]string{1: "gone"}}}
	if _, err := apdu.ReadAhead(t.Context(), apdu.NewConn(gone), list(1)); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("card that left: %v", err)
	}
}

func TestBehind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status map[byte]string
		err    error
		ran    bool // the command behind the SELECT
	}{
		{"selected", nil, nil, true},
		{"locked", map[byte]string{0xA4: "6283"}, nil, true},
		{"refused", map[byte]string{0xA4: "6A82"}, apdu.SWFileNotFound, false},
		{"command refused", map[byte]string{1: "6982"}, nil, true},
		{"gone", map[byte]string{0xA4: "gone"}, apdu.ErrCardRemoved, false},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			for _, card := range []apdu.Card{&listCard{status: c.status}, &framesCard{listCard: listCard{status: c.status}}} {
				d := apdu.Behind(apdu.NewConn(card), sel())
				for range 2 { // the SELECT goes once
					r, err := d.Do(t.Context(), list(1)[0].Command)
					if !errors.Is(err, c.err) || c.err == nil && (r.SW == apdu.SWSuccess) != (c.status[1] == "") {
						t.Errorf("%T: %+v, %v", card, r, err)
					}
					if c.err != nil {
						break
					}
				}
				if l, ok := card.(*listCard); ok {
					want := []string{"00A4040001", "0001000001", "0001000001"}
					if !c.ran {
						want = want[:1]
					}
					if !slices.Equal(l.sent, want) {
						t.Errorf("sent %q, want %q", l.sent, want)
					}
				}
			}
		})
	}
}

// The error of a refused SELECT tells it from the command behind it.
func TestBehindNamesTheSelect(t *testing.T) {
	t.Parallel()
	card := &framesCard{listCard: listCard{status: map[byte]string{0xA4: "6A82"}}}
	rs, err := apdu.DoAll(t.Context(), apdu.Behind(apdu.NewConn(card), sel()), list(1, 2))
	var se *apdu.StatusError
	if len(rs) != 0 || !errors.As(err, &se) || se.INS != 0xA4 {
		t.Errorf("%+v, %v", rs, err)
	}
}
