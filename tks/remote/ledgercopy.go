package remote

import (
	"context"
	"errors"
	"fmt"

	"inkan/tks"
	"inkan/tks/local"
)

// pathPage is the path of the call for a part of a node's ledger.
const pathPage = "ledger/page"

// ledgerPage asks for a part of the ledger.
type ledgerPage struct {
	From int64 `json:"from"`
}

func (*ledgerPage) about() subject { return subject{} }
func (*ledgerPage) wipe()          {}

type ledgerPageReply struct {
	Lines hexBytes `json:"lines"` // empty: nothing is left
}

func (h *Handler) page(_ context.Context, in *ledgerPage) (answer, error) {
	if h.cfg.Pages == nil {
		return answer{}, fmt.Errorf("this node has no ledger to copy: %w", tks.ErrDenied)
	}
	b, err := h.cfg.Pages(in.From)
	if err != nil && !errors.Is(err, tks.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", err, ErrRequest)
	}
	return answer{body: ledgerPageReply{b}}, err
}

// CopyLedger hands the ledgers of the client's nodes, one after the other, to adopt,
// which says how many cards it has taken: so a node with keys that is new gets to
// know which cards were keyed before. At least half of the nodes have to answer
// (tks.ErrUnavailable): a grant is written down by more than half of all, so one of
// those that answer has it.
func (c *Client) CopyLedger(ctx context.Context, adopt func(*local.Copy) (int, error)) (cards int, err error) {
	nodes := c.pool.cfg.Nodes()
	copied, absent := 0, []string(nil)
	for _, n := range nodes {
		book, err := c.copyFrom(ctx, n)
		var gone *lost
		if errors.As(err, &gone) {
			absent = append(absent, gone.Error())
			continue
		}
		if err != nil {
			return cards, fmt.Errorf("copying the ledger of %s: %w", n.Name, err)
		}
		took, err := adopt(book)
		if err != nil {
			return cards, err
		}
		cards += took
		copied++
	}
	if 2*copied < len(nodes) {
		return cards, fmt.Errorf("only %d of %d nodes with keys have given their ledger, half of them have to: %w", copied, len(nodes), unavailable(absent))
	}
	return cards, nil
}

func (c *Client) copyFrom(ctx context.Context, n Node) (*local.Copy, error) {
	var out local.Copy
	for at := int64(0); ; {
		body, err := encode(ledgerPage{at})
		if err != nil {
			return nil, err
		}
		var r ledgerPageReply
		err = c.pool.at(ctx, n, c.pool.cfg.CallTimeout, func(ctx context.Context, n Node) error {
			return post(ctx, n, pathPage, body, how{}, func(b []byte) error {
				if err := decode(b, &r); err != nil {
					return err
				}
				return out.Add(r.Lines)
			})
		})
		if err != nil || len(r.Lines) == 0 {
			return &out, err
		}
		at += int64(len(r.Lines))
	}
}
