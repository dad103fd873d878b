package apdu_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
)

// listCard answers the command 00 INS 00 00 with the status at INS of a table (9000
// where there is none) and counts exchanges.
type listCard struct {
	status map[byte]string
	sent   []string
}

func (c *listCard) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, fmt.Sprintf("%X", cmd))
	return c.answer(cmd)
}

func (c *listCard) answer(cmd []byte) ([]byte, error) {
	switch s := c.status[cmd[1]]; s {
	case "":
		return []byte{cmd[1], 0x90, 0x00}, nil
	case "gone":
		return nil, apdu.ErrCardRemoved
	case "6C02":
		if len(cmd) == 5 && cmd[4] == 0x02 {
			return []byte{0xAA, 0xBB, 0x90, 0x00}, nil
		}
		return []byte{0x6C, 0x02}, nil
	case "6102":
		return []byte{0x61, 0x02}, nil
	default:
		var sw uint16
		_, err := fmt.Sscanf(s, "%X", &sw)
		return []byte{byte(sw >> 8), byte(sw)}, err
	}
}

// framesCard is a listCard that takes lists.
type framesCard struct {
	listCard
	lists int
	rogue bool // goes on when it must stop
	short bool // stops without a reason
}

func (c *framesCard) TransmitAll(_ context.Context, frames []apdu.Frame) ([][]byte, error) {
	c.lists++
	var out [][]byte
	for _, f := range frames {
		b, err := c.answer(f.Cmd)
		if err != nil {
			return out, err
		}
		out = append(out, b)
		if !f.Anyway && string(b[len(b)-2:]) != "\x90\x00" && !c.rogue || c.short {
			break
		}
	}
	return out, nil
}

func list(ins ...byte) []apdu.Entry {
	var es []apdu.Entry
	for _, i := range ins {
		es = append(es, apdu.Entry{Command: apdu.Command{INS: i, Ne: 1}})
	}
	return es
}

func answers(rs []apdu.Response) string {
	var s []string
	for _, r := range rs {
		s = append(s, fmt.Sprintf("%X", r.Encode()))
	}
	return strings.Join(s, " ")
}

// TestDoAll runs the same lists one by one and as a whole.
func TestDoAll(t *testing.T) {
	t.Parallel()
	anyway := func(es []apdu.Entry, i int) []apdu.Entry { es[i].Mode = apdu.Anyway; return es }
	for name, tc := range map[string]struct {
		status map[byte]string
		es     []apdu.Entry
		want   string
		err    error
	}{
		"all":                 {nil, list(1, 2, 3), "019000 029000 039000", nil},
		"stops":               {map[byte]string{2: "6A80"}, list(1, 2, 3), "019000 6A80", nil},
		"stops at the end":    {map[byte]string{3: "6A80"}, list(1, 2, 3), "019000 029000 6A80", nil},
		"anyway":              {map[byte]string{2: "6A80"}, anyway(list(1, 2, 3), 1), "019000 6A80 039000", nil},
		"wrong Le":            {map[byte]string{2: "6C02"}, list(1, 2, 3), "019000 AABB9000 039000", nil},
		"more data":           {map[byte]string{2: "6102"}, list(1, 2, 3), "019000 C09000 039000", nil},
		"wrong Le at the end": {map[byte]string{3: "6C02"}, list(1, 2, 3), "019000 029000 AABB9000", nil},
		"card removed":        {map[byte]string{3: "gone"}, list(1, 2, 3), "019000 029000", apdu.ErrCardRemoved},
		"nothing":             {nil, nil, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			frames := &framesCard{listCard: listCard{status: tc.status}}
			for kind, d := range map[string]apdu.Doer{
				"one by one": apdu.NewConn(&listCard{status: tc.status}),
				"whole":      apdu.NewConn(frames),
				"no batcher": struct{ apdu.Doer }{apdu.NewConn(&listCard{status: tc.status})},
			} {
				rs, err := apdu.DoAll(t.Context(), d, tc.es)
				if !errors.Is(err, tc.err) || answers(rs) != tc.want {
					t.Errorf("%s: %s, %v; want %s, %v", kind, answers(rs), err, tc.want, tc.err)
				}
			}
			if len(tc.es) > 0 && frames.lists == 0 {
				t.Error("the card that takes lists got none")
			}
		})
	}
}

func TestDoAllLimits(t *testing.T) {
	t.Parallel()
	es := list(1, 2, 3)
	rogue := &framesCard{listCard: listCard{status: map[byte]string{2: "6A80"}}, rogue: true}
	if rs, err := apdu.NewConn(rogue).DoAll(t.Context(), es); err == nil || answers(rs) != "019000 6A80" {
		t.Errorf("card that goes on: %s, %v", answers(rs), err)
	}
	short := &framesCard{short: true}
	if rs, err := apdu.NewConn(short).DoAll(t.Context(), es); err == nil || answers(rs) != "019000" {
		t.Errorf("card that stops: %s, %v", answers(rs), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ok := &framesCard{}
	if _, err := apdu.NewConn(ok).DoAll(ctx, es); !errors.Is(err, context.Canceled) || ok.lists != 0 {
		t.Errorf("cancelled: %v, %d lists", err, ok.lists)
	}
	if _, err := apdu.NewConn(ok).DoAll(t.Context(), []apdu.Entry{{Command: apdu.Command{Ne: -1}}}); err == nil {
		t.Error("command that cannot be encoded: no error")
	}
}

// TestDoAllAnyway6C: as part of a whole list, 6Cxx of an entry with Anyway is the
// answer; the command has been passed by.
func TestDoAllAnyway6C(t *testing.T) {
	t.Parallel()
	es := list(1, 2, 3)
	es[1].Mode = apdu.Anyway
	rs, err := apdu.NewConn(&framesCard{listCard: listCard{status: map[byte]string{2: "6C02"}}}).DoAll(t.Context(), es)
	if err != nil || answers(rs) != "019000 6C02 039000" {
		t.Errorf("%s, %v", answers(rs), err)
	}
}

// TestDoAllChained: a list with a command that must be chained goes one by one.
func TestDoAllChained(t *testing.T) {
	t.Parallel()
	card := &framesCard{}
	es := append(list(1), apdu.Entry{Command: apdu.Command{INS: 2, Data: make([]byte, 256)}})
	rs, err := apdu.NewConn(card, apdu.ConnConfig{LongData: apdu.CommandChaining}).DoAll(t.Context(), es)
	if err != nil || len(rs) != 2 || card.lists != 0 || len(card.sent) != 3 {
		t.Errorf("%s, %v, %d lists, %d commands", answers(rs), err, card.lists, len(card.sent))
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	conn := apdu.NewConn(&listCard{status: map[byte]string{2: "6A80", 3: "gone"}})
	if b, err := apdu.Run(t.Context(), conn, apdu.Command{INS: 1}); err != nil || !slices.Equal(b, []byte{1}) {
		t.Errorf("%X, %v", b, err)
	}
	var se *apdu.StatusError
	if _, err := apdu.Run(t.Context(), conn, apdu.Command{INS: 2}); !errors.As(err, &se) || se.INS != 2 || !errors.Is(err, apdu.SWWrongData) {
		t.Errorf("refused: %v", err)
	}
	if _, err := apdu.Run(t.Context(), conn, apdu.Command{INS: 3}); !errors.Is(err, apdu.ErrCardRemoved) || !strings.Contains(err.Error(), "00030000") {
		t.Errorf("card removed: %v", err)
	}
}

func TestRunAll(t *testing.T) {
	t.Parallel()
	conn := apdu.NewConn(&listCard{status: map[byte]string{2: "6A80", 3: "gone"}})
	if rs, err := apdu.RunAll(t.Context(), conn, list(1, 1)); err != nil || len(rs) != 2 {
		t.Errorf("%s, %v", answers(rs), err)
	}
	if rs, err := apdu.RunAll(t.Context(), conn, list(1, 2, 1)); !errors.Is(err, apdu.SWWrongData) || len(rs) != 2 {
		t.Errorf("refused: %s, %v", answers(rs), err)
	}
	if rs, err := apdu.RunAll(t.Context(), conn, list(1, 3, 1)); !errors.Is(err, apdu.ErrCardRemoved) || len(rs) != 1 || !strings.Contains(err.Error(), "command 2 of a list of 3") {
		t.Errorf("card removed: %s, %v", answers(rs), err)
	}
	if rs, err := apdu.RunAll(t.Context(), conn, apdu.Entries(apdu.Anyway, apdu.Command{INS: 2}, apdu.Command{INS: 1})); err != nil || len(rs) != 2 {
		t.Errorf("anyway: %s, %v", answers(rs), err)
	}
	if _, err := apdu.RunAll(t.Context(), fewBatcher{conn}, list(1, 1)); err == nil {
		t.Error("a Batcher that ends early: no error")
	}
}

// fewBatcher breaks the contract: it answers the first command only.
type fewBatcher struct{ apdu.Doer }

func (b fewBatcher) DoAll(ctx context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	r, err := b.Do(ctx, es[0].Command)
	return []apdu.Response{r}, err
}

func TestChain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n    int
		want []int
	}{{0, []int{0}}, {255, []int{255}}, {256, []int{255, 1}}, {510, []int{255, 255}}, {511, []int{255, 255, 1}}} {
		parts, err := apdu.Chain(apdu.Command{CLA: 0x80, INS: 1, Data: make([]byte, tc.n), Ne: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for i, p := range parts {
			got = append(got, len(p.Data))
			last := i == len(parts)-1
			if (p.CLA == 0x80) != last || (p.Ne == 256) != last {
				t.Errorf("n=%d part %d: CLA %02X Ne %d", tc.n, i, p.CLA, p.Ne)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("n=%d: %v, want %v", tc.n, got, tc.want)
		}
	}
}
