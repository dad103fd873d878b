// Package station is this machine as a place where cards are worked on: its
// readers and software cards, the server it trusts, and what can be told of a
// card and done with it here. The commands card and demo and the kiosk share it.
//
// [OpenCard] gives a card, [Server.Client] the client to run an operation with
// through tps/wire, [Describe] and [Use] look at a card without a server.
package station

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"inkan/apdu"
	"inkan/pcsc"
	"inkan/sim"
)

// Card is a card that this station has open.
type Card interface {
	apdu.Card
	io.Closer
	ATR() apdu.ATR
	Reset(ctx context.Context) error
}

// Source says where a card is: in a PC/SC reader or in an image file.
type Source struct {
	Reader string // name or the beginning of it; empty: the only reader with a card
	Sim    string // image file of a software card; empty: a reader
}

// OpenCard opens a card for one operation. The caller closes it.
func OpenCard(ctx context.Context, s Source) (Card, error) {
	if s.Sim != "" {
		if s.Reader != "" {
			return nil, errors.New("give a reader or a software card, not both")
		}
		if _, err := os.Stat(s.Sim); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no software card %s: make one with inkan sim new --image %s", s.Sim, s.Sim)
		}
		return sim.Open(s.Sim)
	}
	svc, err := pcsc.Open(ctx)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, svc, s.Reader)
	if err != nil {
		return nil, errors.Join(err, svc.Close())
	}
	return inReader{c, svc}, nil
}

// inReader closes the service with the card.
type inReader struct {
	*pcsc.Conn
	svc *pcsc.Service
}

// Close implements io.Closer.
func (r inReader) Close() error { return errors.Join(r.Conn.Close(), r.svc.Close()) }

func connect(ctx context.Context, svc *pcsc.Service, name string) (*pcsc.Conn, error) {
	if name == "" {
		var err error
		if name, err = onlyCard(ctx, svc); err != nil {
			return nil, err
		}
	}
	return svc.Connect(ctx, name)
}

// onlyCard finds the one reader that has a card.
func onlyCard(ctx context.Context, svc *pcsc.Service) (string, error) {
	rs, err := svc.Readers(ctx)
	if err != nil {
		return "", err
	}
	var with []string
	for _, r := range rs {
		if r.State == pcsc.Present {
			with = append(with, r.Name)
		}
	}
	switch len(with) {
	case 1:
		return with[0], nil
	case 0:
		return "", fmt.Errorf("no card in any of %d readers: insert one, or name a software card with --sim", len(rs))
	}
	return "", fmt.Errorf("%d readers have a card: choose one with --reader (%q)", len(with), with)
}
