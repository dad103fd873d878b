package securechannel

import (
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// chain is what secure messaging carries from one command to the next, for
// whichever protocol runs. It is a value: kept per command of a list, it lets a
// session go on from any of them.
type chain struct {
	one   scp01.Chain
	two   scp02.Chain
	three scp03.Chain
}

// messaging is the secure messaging of one session, the same for both ends.
// Responses of SCP02 chain by themselves, those of SCP03 hang on the chain of
// the command they answer; those of SCP01 have none.
type messaging interface {
	authenticate(hostCryptogram []byte) (apdu.Command, chain, error)
	verifyAuthenticate(cmd apdu.Command) ([]byte, chain, error)
	wrap(c chain, cmd apdu.Command) (apdu.Command, chain, error)
	unwrap(c chain, cmd apdu.Command) (apdu.Command, chain, error)
	wrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error)
	unwrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error)
}

// exchange is what a response is bound to: the plain command, the chain after
// it, and the chain of the responses before it.
type exchange struct {
	plain     apdu.Command
	after     chain
	responses scp02.Chain
}

type messaging01 struct{ ch scp01.Channel }

func (m messaging01) authenticate(hc []byte) (apdu.Command, chain, error) {
	cmd, c, err := m.ch.Authenticate(hc)
	return cmd, chain{one: c}, err
}

func (m messaging01) verifyAuthenticate(cmd apdu.Command) ([]byte, chain, error) {
	hc, c, err := m.ch.VerifyAuthenticate(cmd)
	return hc, chain{one: c}, err
}

func (m messaging01) wrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Wrap(c.one, cmd)
	return out, chain{one: next}, err
}

func (m messaging01) unwrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Unwrap(c.one, cmd)
	return out, chain{one: next}, err
}

func (m messaging01) wrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	return r, x.responses, nil
}

func (m messaging01) unwrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	return r, x.responses, nil
}

type messaging02 struct{ ch scp02.Channel }

func (m messaging02) authenticate(hc []byte) (apdu.Command, chain, error) {
	cmd, c, err := m.ch.Authenticate(hc)
	return cmd, chain{two: c}, err
}

func (m messaging02) verifyAuthenticate(cmd apdu.Command) ([]byte, chain, error) {
	hc, c, err := m.ch.VerifyAuthenticate(cmd)
	return hc, chain{two: c}, err
}

func (m messaging02) wrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Wrap(c.two, cmd)
	return out, chain{two: next}, err
}

func (m messaging02) unwrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Unwrap(c.two, cmd)
	return out, chain{two: next}, err
}

func (m messaging02) wrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	return m.ch.WrapResponse(x.responses, x.plain, r)
}

func (m messaging02) unwrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	return m.ch.UnwrapResponse(x.responses, x.plain, r)
}

type messaging03 struct{ ch scp03.Channel }

func (m messaging03) authenticate(hc []byte) (apdu.Command, chain, error) {
	cmd, c, err := m.ch.Authenticate(hc)
	return cmd, chain{three: c}, err
}

func (m messaging03) verifyAuthenticate(cmd apdu.Command) ([]byte, chain, error) {
	hc, c, err := m.ch.VerifyAuthenticate(cmd)
	return hc, chain{three: c}, err
}

func (m messaging03) wrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Wrap(c.three, cmd)
	return out, chain{three: next}, err
}

func (m messaging03) unwrap(c chain, cmd apdu.Command) (apdu.Command, chain, error) {
	out, next, err := m.ch.Unwrap(c.three, cmd)
	return out, chain{three: next}, err
}

func (m messaging03) wrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	out, err := m.ch.WrapResponse(x.after.three, r)
	return out, x.responses, err
}

func (m messaging03) unwrapResponse(x exchange, r apdu.Response) (apdu.Response, scp02.Chain, error) {
	out, err := m.ch.UnwrapResponse(x.after.three, r)
	return out, x.responses, err
}

// newMessaging makes the secure messaging of a session that opens at level l.
// It does not copy the keys.
func newMessaging(p Protocol, o Option, l Level, k SessionKeys, d Dialect) (messaging, error) {
	switch p {
	case SCP01:
		ch := scp01.Channel{ENC: k.ENC.Bytes(), MAC: k.MAC.Bytes(), Option: scp01.Option(o), Level: scp01.Level(l)}
		if d&EmptyField != 0 {
			ch.Empty = scp01.EmptyPadded
		}
		return messaging01{ch}, nil
	case SCP02:
		ch := scp02.Channel{
			ENC: k.ENC.Bytes(), MAC: k.MAC.Bytes(), RMAC: k.RMAC.Bytes(),
			Option: scp02.Option(o), Level: scp02.Level(l),
		}
		if d&EmptyField != 0 {
			ch.Empty = scp02.EmptyPadded
		}
		return messaging02{ch}, nil
	case SCP03:
		ch := scp03.Channel{
			ENC: k.ENC.Bytes(), MAC: k.MAC.Bytes(), RMAC: k.RMAC.Bytes(),
			Option: scp03.Option(o), Level: scp03.Level(l),
		}
		if d&CounterWithDataOnly != 0 {
			ch.Counting = scp03.CountWithData
		}
		if d&longPadding != 0 {
			ch.Padding = scp03.PadLong
		}
		return messaging03{ch}, nil
	}
	return nil, fmt.Errorf("%v: %w", p, apdu.ErrUnsupported)
}
