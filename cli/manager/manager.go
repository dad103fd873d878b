// Package manager works with the card manager of a GlobalPlatform card by hand:
// no server, no profile, no record, keys in memory. [Open] opens a secure channel
// under static keys; the methods of [Manager] list, install, delete and change keys.
//
// SCP01, SCP02 and SCP03 as package securechannel has them, chosen by the card
// recognition data; a card without is one of Open Platform 2.0.1 (SCP01), unless its
// answer names another protocol. Delegated management is not supported. What changes the card is checked as
// far as it can be before the first command. A Manager serves one goroutine; the
// card belongs to the caller.
package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
)

// Config says how the card manager is reached.
type Config struct {
	AID     apdu.AID              // empty: the card's default selected application
	Keys    Keys                  // the card's; the caller wipes them
	Version gp.KeyVersion         // 00: the card's default
	Dialect securechannel.Dialect // what an older card wants
}

// ParseDialect reads names of deviations as [compat] of a profile has them: no_le,
// empty_field, data_counter.
func ParseDialect(names []string) (d securechannel.Dialect, err error) {
	known := map[string]securechannel.Dialect{
		"no_le": securechannel.NoLe, "empty_field": securechannel.EmptyField, "data_counter": securechannel.CounterWithDataOnly,
	}
	for _, n := range names {
		bit, ok := known[n]
		if !ok {
			return 0, fmt.Errorf("no deviation %q: want no_le, empty_field or data_counter", n)
		}
		d |= bit
	}
	return d, nil
}

// Manager is a card manager behind a secure channel.
type Manager struct {
	AID   apdu.AID   // as it names itself, else as configured
	CPLC  *gp.CPLC   // nil for a card without
	conn  *apdu.Conn // plain
	hint  gp.SCP     // of the recognition data, or what is taken where there is none
	cfg   Config
	inner *securechannel.Session
}

// Open selects the card manager and opens a secure channel with it. No attempt is
// repeated: cards count wrong keys. The caller closes the Manager.
func Open(ctx context.Context, card apdu.Card, cfg Config) (*Manager, error) {
	if err := cfg.Keys.check(); err != nil {
		return nil, err
	}
	m := &Manager{conn: apdu.NewConn(card), cfg: cfg, AID: cfg.AID}
	if err := m.identify(ctx); err != nil {
		return nil, err
	}
	var err error
	m.inner, err = m.channel(ctx, cfg.Keys, cfg.Version)
	return m, err
}

// identify reads what the card manager shows to anybody.
func (m *Manager) identify(ctx context.Context) error {
	fci, err := m.selectIt(ctx)
	if err != nil {
		return fmt.Errorf("selecting the card manager: %w", err)
	}
	if fci.AID.Len() > 0 {
		m.AID = fci.AID
	}
	if cplc, err := gp.ReadCPLC(ctx, m.conn); err == nil {
		m.CPLC = &cplc
	} else if lost(err) {
		return err
	}
	rec, err := gp.ReadRecognition(ctx, m.conn)
	if lost(err) {
		return err
	}
	for _, p := range []securechannel.Protocol{securechannel.SCP03, securechannel.SCP02, securechannel.SCP01} {
		if scp, ok := rec.Find(uint8(p)); ok {
			m.hint = scp
			return nil
		}
	}
	if len(rec.SCPs) > 0 {
		return fmt.Errorf("the card offers %v: %w", rec.SCPs, apdu.ErrUnsupported)
	}
	m.hint = gp.SCP{Protocol: uint8(securechannel.SCP01), Option: 0x05}
	return nil
}

// selectIt selects the configured card manager, or what the card selects by itself.
func (m *Manager) selectIt(ctx context.Context) (gp.FCI, error) {
	if m.cfg.AID.Len() == 0 {
		return gp.SelectDefault(ctx, m.conn)
	}
	return gp.Select(ctx, m.conn, m.cfg.AID)
}

// lost tells a card that is gone from one that does not show something.
func lost(err error) bool { return errors.Is(err, apdu.ErrCardRemoved) }

// channel opens a channel to what is selected.
func (m *Manager) channel(ctx context.Context, keys Keys, v gp.KeyVersion) (*securechannel.Session, error) {
	req := securechannel.Request{
		KeyVersion: v, HostChallenge: make([]byte, 8), Choose: best, Dialect: m.cfg.Dialect,
		HintProtocol: securechannel.Protocol(m.hint.Protocol), HintOption: securechannel.Option(m.hint.Option),
	}
	if req.HintProtocol == securechannel.SCP03 && req.HintOption&0x01 != 0 { // S16 mode
		req.HostChallenge = make([]byte, 16)
	}
	if _, err := rand.Read(req.HostChallenge); err != nil {
		return nil, fmt.Errorf("drawing the host challenge: %w", err)
	}
	s, err := securechannel.Open(ctx, m.conn, req, keys.session)
	if errors.Is(err, securechannel.ErrCryptogram) {
		return nil, fmt.Errorf("these are not the card's keys (after a few wrong attempts a card may lock itself for ever): %w", err)
	}
	return s, err
}

// best is the strongest level that the card offers.
func best(iu securechannel.InitUpdate) securechannel.Level {
	for _, l := range []securechannel.Level{securechannel.LevelFull, securechannel.LevelCENCRMAC} {
		if iu.Protocol == securechannel.SCP03 && securechannel.CheckLevel(iu.Protocol, iu.Option, l) == nil {
			return l
		}
	}
	return securechannel.LevelCENC
}

// Info is what the card answered when the channel was opened.
func (m *Manager) Info() securechannel.InitUpdate { return m.inner.Info() }

// Level is the channel's security level.
func (m *Manager) Level() securechannel.Level { return m.inner.Level() }

// Close ends the channel. The card's keys are the caller's.
func (m *Manager) Close() error { return m.inner.Close() }

// dialect is that of the commands.
func (m *Manager) dialect() gp.Dialect { return gp.DialectOf(uint8(m.Info().Protocol)) }
