package securechannel

import (
	"crypto/rand"
	"fmt"
	"io"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel/internal/class"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// InitializeUpdate answers INITIALIZE UPDATE. Any session is terminated first.
// P2 is 00; under SCP01 it is a key index, and 01 is the same key as 00. Status
// words: 6A88 no such key set or key index, 6A86 P2, 6700 length of the challenge,
// 6985 counter exhausted, 6581 counter not stored.
func (s *CardSession) InitializeUpdate(cmd apdu.Command) apdu.Response {
	s.Terminate()
	keys, ok := s.cfg.KeySet(gp.KeyVersion(cmd.P1))
	switch {
	case !ok:
		return apdu.Response{SW: apdu.SWReferencedNotFound}
	case CheckOption(keys.Protocol, keys.Option) != nil:
		return apdu.Response{SW: apdu.SWReferencedNotFound}
	case keys.Protocol == SCP01 && cmd.P2 > firstKeyIndex:
		return apdu.Response{SW: apdu.SWReferencedNotFound}
	case keys.Protocol != SCP01 && cmd.P2 != 0:
		return apdu.Response{SW: apdu.SWIncorrectP1P2}
	case len(cmd.Data) != size(keys.Protocol, keys.Option):
		return apdu.Response{SW: apdu.SWWrongLength}
	}
	s.keys = keys
	s.iu = InitUpdate{
		KDD: s.cfg.KDD, KeyVersion: keys.Version, Protocol: keys.Protocol, Option: keys.Option,
		HostChallenge: append(HostChallenge(nil), cmd.Data...),
	}
	if sw := s.prepare(); sw != apdu.SWSuccess {
		s.Terminate()
		return apdu.Response{SW: sw}
	}
	s.state = cardPending
	return apdu.Response{Data: encodeInitUpdate(s.iu), SW: apdu.SWSuccess}
}

// firstKeyIndex is the key index of the first key of a set.
const firstKeyIndex = 0x01

// prepare chooses counter and challenge and derives the session keys.
func (s *CardSession) prepare() apdu.StatusWord {
	if sw := s.advanceAtInit(); sw != apdu.SWSuccess {
		return sw
	}
	var err error
	switch s.keys.Protocol {
	case SCP01:
		err = s.prepare01()
	case SCP02:
		err = s.prepare02()
	case SCP03:
		err = s.prepare03()
	}
	if err != nil {
		return apdu.SWNoDiagnosis
	}
	return apdu.SWSuccess
}

// Largest sequence counters.
const (
	maxCounter02 = 0x7FFF   // cards need not go further (2.2.1 §E.1.2.4)
	maxCounter03 = 0xFFFFFF // Amendment D §6.2.2.1
)

// advanceAtInit is the counter of SCP03 with a pseudo-random challenge: it moves
// with each INITIALIZE UPDATE and is used in its new value. That of SCP02 is
// shown as it is and moves when the host has authenticated. SCP01 has none.
func (s *CardSession) advanceAtInit() apdu.StatusWord {
	n := s.keys.Counter
	switch {
	case s.keys.Protocol == SCP01:
	case s.keys.Protocol == SCP02 && n > maxCounter02:
		return apdu.SWConditionsOfUse
	case s.keys.Protocol == SCP02:
		s.iu.Counter = SequenceCounter{byte(n >> 8), byte(n)}
	case scp03.Option(s.keys.Option)&scp03.PseudoRandom == 0:
	case n >= maxCounter03:
		return apdu.SWConditionsOfUse
	default:
		n++
		s.iu.Counter = SequenceCounter{byte(n >> 16), byte(n >> 8), byte(n)}
		return s.storeCounter(n)
	}
	return apdu.SWSuccess
}

func (s *CardSession) storeCounter(n uint32) apdu.StatusWord {
	if s.keys.SetCounter == nil {
		return apdu.SWSuccess
	}
	if err := s.keys.SetCounter(n); err != nil {
		return apdu.SWMemoryFailure
	}
	return apdu.SWSuccess
}

func (s *CardSession) prepare01() error {
	s.iu.KeyIndex = firstKeyIndex
	var err error
	if s.iu.CardChallenge, err = s.random(8); err != nil {
		return err
	}
	derive := func(static secret.Secret) (secret.Secret, error) {
		k, err := scp01.SessionKey(static.Bytes(), s.iu.HostChallenge, s.iu.CardChallenge)
		return secret.New(k), err
	}
	if s.sess.ENC, err = derive(s.keys.ENC); err != nil {
		return err
	}
	if s.sess.MAC, err = derive(s.keys.MAC); err != nil {
		return err
	}
	s.iu.CardCryptogram, err = cardCryptogram(s.iu, s.sess)
	return err
}

func (s *CardSession) prepare02() error {
	counter := [2]byte(s.iu.Counter)
	derive := func(static secret.Secret, c scp02.Constant) (secret.Secret, error) {
		k, err := scp02.SessionKey(static.Bytes(), c, counter)
		return secret.New(k), err
	}
	var err error
	if s.sess.ENC, err = derive(s.keys.ENC, scp02.SENC); err != nil {
		return err
	}
	if s.sess.MAC, err = derive(s.keys.MAC, scp02.SMAC); err != nil {
		return err
	}
	if s.sess.RMAC, err = derive(s.keys.MAC, scp02.SRMAC); err != nil {
		return err
	}
	if s.sdek, err = derive(s.keys.DEK, scp02.SDEK); err != nil {
		return err
	}
	if scp02.Option(s.keys.Option)&scp02.PseudoRandom != 0 {
		s.iu.CardChallenge, err = scp02.CardChallenge(s.sess.MAC.Bytes(), s.aid())
	} else {
		s.iu.CardChallenge, err = s.random(6)
	}
	if err != nil {
		return err
	}
	s.iu.CardCryptogram, err = cardCryptogram(s.iu, s.sess)
	return err
}

func (s *CardSession) prepare03() error {
	n := size(SCP03, s.keys.Option)
	var err error
	if scp03.Option(s.keys.Option)&scp03.PseudoRandom != 0 {
		s.iu.CardChallenge, err = scp03.CardChallenge(s.keys.ENC.Bytes(), [3]byte(s.iu.Counter), s.aid(), n)
	} else {
		s.iu.CardChallenge, err = s.random(n)
	}
	if err != nil {
		return err
	}
	context := scp03.Context(s.iu.HostChallenge, s.iu.CardChallenge)
	derive := func(static secret.Secret, d scp03.Derivation) (secret.Secret, error) {
		k, err := scp03.SessionKey(static.Bytes(), d, context)
		return secret.New(k), err
	}
	if s.sess.ENC, err = derive(s.keys.ENC, scp03.SENC); err != nil {
		return err
	}
	if s.sess.MAC, err = derive(s.keys.MAC, scp03.SMAC); err != nil {
		return err
	}
	if s.sess.RMAC, err = derive(s.keys.MAC, scp03.SRMAC); err != nil {
		return err
	}
	s.iu.CardCryptogram, err = cardCryptogram(s.iu, s.sess)
	return err
}

func (s *CardSession) aid() apdu.AID {
	if s.cfg.AID == nil {
		return apdu.AID{}
	}
	return s.cfg.AID()
}

func (s *CardSession) random(n int) ([]byte, error) {
	src := s.cfg.Rand
	if src == nil {
		src = rand.Reader
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(src, b); err != nil {
		return nil, fmt.Errorf("drawing a card challenge: %w", err)
	}
	return b, nil
}

// ExternalAuthenticate answers EXTERNAL AUTHENTICATE and opens the session. Any
// failure drops the pending INITIALIZE UPDATE. Without one an open session is
// aborted, and an aborted one stays so. Status words: 6985 without a pending one,
// 6A86 level or P2, 6700 length, 6300 host cryptogram wrong, 6982 (or the
// configured one) C-MAC missing or wrong, 6581 counter not stored.
func (s *CardSession) ExternalAuthenticate(cmd apdu.Command) apdu.Response {
	switch s.state {
	case cardPending:
	case cardAborted:
		return apdu.Response{SW: s.macError()}
	case cardOpen:
		s.abort()
		return apdu.Response{SW: apdu.SWConditionsOfUse}
	default:
		return apdu.Response{SW: apdu.SWConditionsOfUse}
	}
	if sw := s.authenticate(cmd); sw != apdu.SWSuccess {
		s.Terminate()
		return apdu.Response{SW: sw}
	}
	s.state = cardOpen
	return apdu.Response{SW: apdu.SWSuccess}
}

func (s *CardSession) authenticate(cmd apdu.Command) apdu.StatusWord {
	level := Level(cmd.P1)
	switch {
	case CheckLevel(s.keys.Protocol, s.keys.Option, level) != nil || cmd.P2 != 0:
		return apdu.SWIncorrectP1P2
	case s.cfg.Accepts != nil && !s.cfg.Accepts(level):
		return apdu.SWIncorrectP1P2
	case len(cmd.Data) != 2*size(s.keys.Protocol, s.keys.Option):
		return apdu.SWWrongLength
	case !class.Secured(cmd.CLA):
		return s.macError()
	}
	want, err := hostCryptogram(s.iu, s.sess)
	if err != nil {
		return apdu.SWNoDiagnosis
	}
	known := equal(want, cmd.Data[:len(want)])
	var d Dialect
	if s.cfg.CounterWithDataOnly {
		d |= CounterWithDataOnly
	}
	if s.cfg.LongPadding {
		d |= longPadding
	}
	sm, err := newMessaging(s.keys.Protocol, s.keys.Option, level, s.sess, d)
	if err != nil {
		return apdu.SWNoDiagnosis
	}
	_, first, err := sm.verifyAuthenticate(cmd)
	if err == nil && s.keys.Protocol == SCP02 { // moves with the first verified C-MAC (2.2.1 §E.1.2.4)
		if sw := s.storeCounter(s.keys.Counter + 1); sw != apdu.SWSuccess {
			return sw
		}
	}
	switch {
	case !known:
		return apdu.SWAuthFailed
	case err != nil:
		return s.macError()
	}
	s.level, s.sm, s.chain, s.resp = level, sm, first, first.two
	return apdu.SWSuccess
}
