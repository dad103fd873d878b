package tps

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/token"
)

// link is what the runner lends to families and card steps: the card, the
// channel that is open on it, and the key service bound to both.
type link struct {
	r        *run
	set      tks.KeySetName // the keys channels are opened with
	version  gp.KeyVersion
	selected apdu.AID
	session  *securechannel.Session
}

// insSelect ends what was open on the card.
const insSelect = 0xA4

// Doer implements Link.
func (l *link) Doer() apdu.Doer { return plainDoer{l} }

// plainDoer runs plain commands and notices a SELECT, which ends the channel.
type plainDoer struct{ l *link }

// Do implements apdu.Doer.
func (p plainDoer) Do(ctx context.Context, c apdu.Command) (apdu.Response, error) {
	if err := p.before(ctx, c); err != nil {
		return apdu.Response{}, err
	}
	return p.l.r.conn.Do(ctx, c)
}

// DoAll implements apdu.Batcher.
func (p plainDoer) DoAll(ctx context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	for _, e := range es {
		if err := p.before(ctx, e.Command); err != nil {
			return nil, err
		}
	}
	return p.l.r.conn.DoAll(ctx, es)
}

// before ends the open channel at a SELECT, and finishes its opening before any
// other command: a card may demand that nothing comes in between.
func (p plainDoer) before(ctx context.Context, c apdu.Command) error {
	switch {
	case c.INS == insSelect:
		p.l.end()
	case p.l.session != nil:
		return p.l.session.Authenticate(ctx)
	}
	return nil
}

// Together implements the ability that apdu.Together asks for.
func (p plainDoer) Together() int { return p.l.r.conn.Together() }

// end forgets the open channel and wipes its keys.
func (l *link) end() {
	if l.session != nil {
		l.session.Close()
	}
	l.session, l.selected = nil, apdu.AID{}
}

// Channel implements Link.
func (l *link) Channel(ctx context.Context, aid apdu.AID) (*securechannel.Session, error) {
	if l.session != nil && l.selected == aid {
		return l.session, nil
	}
	l.end()
	s, err := l.r.open(ctx, l.set, l.version, aid)
	if refusesSelect(err) {
		return nil, fmt.Errorf("selecting %s: %w", aid, err)
	}
	if err != nil {
		return nil, within(StatusSecureChannel, "", fmt.Errorf("opening the secure channel: %w", err))
	}
	l.session, l.selected = s, aid
	return s, nil
}

// manager opens the channel with the card manager.
func (l *link) manager(ctx context.Context) (*securechannel.Session, error) {
	return l.Channel(ctx, l.r.card.Manager)
}

// use makes later channels use other keys; the open one is left.
func (l *link) use(set tks.KeySetName, v gp.KeyVersion) {
	l.end()
	l.set, l.version = set, v
}

// Keys implements Link.
func (l *link) Keys() CardKeys { return cardKeys{l} }

// Card implements Link.
func (l *link) Card() Card { return l.r.card }

// Progress implements Link.
func (l *link) Progress(ctx context.Context, done, total int) { l.r.inStep(ctx, done, total) }

// cardKeys binds the key service to the card and its open channel.
type cardKeys struct{ l *link }

// Random implements CardKeys.
func (k cardKeys) Random(ctx context.Context, n int) ([]byte, error) {
	return k.l.r.e.Keys.Random(ctx, n)
}

// Encrypt implements CardKeys.
func (k cardKeys) Encrypt(ctx context.Context, data secret.Secret) ([]byte, error) {
	if k.l.session == nil {
		return nil, errors.New("encrypting for the card: no secure channel is open")
	}
	rep, err := k.l.r.e.Keys.Encrypt(ctx, tks.EncryptRequest{CardProof: k.l.proof(), Data: data})
	if err != nil {
		return nil, fmt.Errorf("encrypting for the card: %w", err)
	}
	return rep.Data, nil
}

// Secret implements CardKeys.
func (k cardKeys) Secret(ctx context.Context, of token.AppletKeys, use tks.Use) (secret.Secret, error) {
	rep, err := k.l.r.e.Keys.CardSecret(ctx, tks.SecretRequest{
		KeySet: of.Set, KeyVersion: of.Version, CUID: k.l.r.card.CUID, Use: use, Algorithm: of.Algorithm,
	})
	if err != nil {
		return secret.Secret{}, fmt.Errorf("deriving the card's %s: %w", use, err)
	}
	return rep.Secret, nil
}

// proof is the card's proof of the open channel.
func (l *link) proof() tks.CardProof {
	return tks.Proof(l.set, l.r.card.CUID, l.session.Info())
}

// open selects an application and opens a channel with it.
func (r *run) open(ctx context.Context, set tks.KeySetName, v gp.KeyVersion, aid apdu.AID) (*securechannel.Session, error) {
	req, err := r.channelRequest(ctx, v)
	if err != nil {
		return nil, err
	}
	req.Choose = func(iu securechannel.InitUpdate) securechannel.Level {
		return channelLevel(r.profile.Channel.Level, iu, aid == r.card.Manager)
	}
	return securechannel.Open(ctx, apdu.Behind(r.conn, gp.SelectCommand(aid)), req, func(ctx context.Context, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
		if p := r.card.Proved; p != nil && iu.KDD != p.KDD {
			return securechannel.SessionKeys{}, refuse(StatusSecureChannel, "another card answers: its key diversification data is %s, it was %s", iu.KDD, p.KDD)
		}
		return r.sessionKeys(ctx, set, iu)
	})
}

func (r *run) sessionKeys(ctx context.Context, set tks.KeySetName, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
	rep, err := r.e.Keys.DeriveSession(ctx, tks.SessionRequest{CardProof: tks.Proof(set, r.card.CUID, iu)})
	if err != nil {
		return securechannel.SessionKeys{}, err
	}
	return securechannel.SessionKeys{ENC: rep.ENC, MAC: rep.MAC, RMAC: rep.RMAC}, nil
}

// channelRequest draws the host challenge: from the key service, always.
func (r *run) channelRequest(ctx context.Context, v gp.KeyVersion) (securechannel.Request, error) {
	n := 8
	if r.card.Protocol == securechannel.SCP03 && r.card.Option&0x01 != 0 {
		n = 16 // S16 mode
	}
	c, err := r.e.Keys.Random(ctx, n)
	if err != nil {
		return securechannel.Request{}, fmt.Errorf("drawing the host challenge: %w", err)
	}
	var d securechannel.Dialect
	if r.profile.Compat.EmptyField {
		d |= securechannel.EmptyField
	}
	if r.profile.Compat.NoLe {
		d |= securechannel.NoLe
	}
	if r.profile.Compat.DataCounter {
		d |= securechannel.CounterWithDataOnly
	}
	req := securechannel.Request{
		KeyVersion: v, HostChallenge: c, Dialect: d, Together: r.conn.Together() > 1, HintProtocol: r.card.Protocol, HintOption: r.card.Option,
	}
	if r.card.Protocol == 0 {
		// A card without recognition data: Open Platform 2.0.1, unless its answer
		// names another protocol.
		req.HintProtocol, req.HintOption = securechannel.SCP01, 0x05
	}
	return req, nil
}

// channelLevel is the security level of a channel (§13.6 [channel] level): an
// applet of the CoolKey kind takes no more than C-MAC and C-DECRYPTION.
func channelLevel(want string, iu securechannel.InitUpdate, manager bool) securechannel.Level {
	switch {
	case want == "mac":
		return securechannel.LevelCMAC
	case want == "enc" || !manager || iu.Protocol != securechannel.SCP03:
		return securechannel.LevelCENC
	case iu.Option&0x60 == 0x60:
		return securechannel.LevelFull
	case iu.Option&0x20 != 0:
		return securechannel.LevelCENCRMAC
	}
	return securechannel.LevelCENC
}
