package station

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/piv"
	"inkan/pcsc"
)

// serviceRetry is the time between attempts to reach a PC/SC service that is not there.
const serviceRetry = time.Second

// Watch reports readers and cards as [pcsc.Service.Watch] does, and waits for a
// service that is not there yet: its absence is reported once. With images there
// are no readers but those: each software card lies in a reader by its file's name.
//
// It ends with ctx, with the loop, or with an error that is [apdu.ErrUnsupported]:
// this program reaches no reader.
func Watch(ctx context.Context, images []string) iter.Seq2[pcsc.Event, error] {
	if len(images) > 0 {
		return watchImages(ctx, images)
	}
	return func(yield func(pcsc.Event, error) bool) {
		for reported := false; ctx.Err() == nil; {
			svc, err := pcsc.Open(ctx)
			if err == nil {
				follow(ctx, svc, yield)
				return
			}
			if ctx.Err() != nil || !reported && !yield(pcsc.Event{}, err) || errors.Is(err, apdu.ErrUnsupported) {
				return
			}
			reported = true
			select {
			case <-ctx.Done():
			case <-time.After(serviceRetry):
			}
		}
	}
}

func follow(ctx context.Context, svc *pcsc.Service, yield func(pcsc.Event, error) bool) {
	defer svc.Close()
	for e, err := range svc.Watch(ctx) {
		if !yield(e, err) {
			return
		}
	}
}

// watchImages reports every software card as one that is in its reader and stays there.
func watchImages(ctx context.Context, images []string) iter.Seq2[pcsc.Event, error] {
	return func(yield func(pcsc.Event, error) bool) {
		for _, image := range images {
			if !yield(pcsc.Event{Kind: pcsc.ReaderAdded, Reader: image}, nil) || !yield(pcsc.Event{Kind: pcsc.CardInserted, Reader: image}, nil) {
				return
			}
		}
		<-ctx.Done()
	}
}

// CUID is the number that a card shows, as [Info] has it. It tells whether the
// card is still the one that was described.
func CUID(ctx context.Context, card Card) (string, error) {
	conn := apdu.NewConn(card)
	if _, err := gp.Select(ctx, conn, apdu.AID{}); lost(err) {
		return "", err
	}
	cplc, err := gp.ReadCPLC(ctx, conn)
	if err == nil {
		return cplc.CUID().String(), nil
	}
	if lost(err) {
		return "", err
	}
	if _, noPIV := piv.Select(ctx, conn); noPIV != nil {
		return "", errors.Join(err, noPIV)
	}
	var p PIV
	r := &pivReader{d: conn}
	r.identity(ctx, &p)
	if id, _, ok := p.cuid(); ok {
		return id.String(), nil
	}
	return "", errors.Join(err, r.err)
}

// Holder is the person that a certificate names, "" if it names nobody.
func (c Certificate) Holder() string {
	if c.cert == nil {
		return ""
	}
	return strings.TrimSpace(c.cert.Subject.CommonName)
}
