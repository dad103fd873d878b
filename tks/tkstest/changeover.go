package tkstest

import (
	"errors"
	"testing"

	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
)

// testChangeover: AES cards go up and down in length, out to the site's keys and
// back to the factory's; after each step the card and the service agree.
func testChangeover(t *testing.T, f Fixture) {
	for _, i := range []securechannel.Option{0x00, 0x70, 0x71} {
		c := NewCard(securechannel.SCP03, i)
		for _, to := range []struct {
			set tks.KeySetName
			v   gp.KeyVersion
		}{{Site, 0x02}, {Site, 0x04}, {Site, 0x03}, {Site, 0x04}, {Site, 0x02}, {tks.Factory, 0x01}} {
			c.Changeover(t, f.Service, to.set, to.v)
			c.Check(t, f.Service)
		}
	}
}

func testChangeoverDES(t *testing.T, f Fixture) {
	for _, c := range []*Card{
		NewCard(securechannel.SCP01, 0x05), NewCard(securechannel.SCP01, 0x15),
		NewCard(securechannel.SCP02, 0x15), NewCard(securechannel.SCP02, 0x55), NewCard(securechannel.SCP02, 0x35),
	} {
		for _, v := range []gp.KeyVersion{0x05, 0x06, 0x05} {
			c.Changeover(t, f.Service, Site, v)
			c.Check(t, f.Service)
		}
		c.Changeover(t, f.Service, tks.Factory, 0x01)
		c.Check(t, f.Service)
	}
}

// wrap asks for a changeover without making it.
func (c *Card) wrap(t *testing.T, s tks.Service, set tks.KeySetName, v gp.KeyVersion) (tks.KeySetReply, error) {
	t.Helper()
	reply, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: set, NewKeyVersion: v})
	if err != nil && len(reply.Data) > 0 {
		t.Errorf("data came with the error %v", err)
	}
	return reply, err
}

// testOneKeying: once a card has proved itself under its site keys, whoever claims
// its KDD with factory keys gets nothing, until an agent releases the card.
func testOneKeying(t *testing.T, f Fixture) {
	for _, c := range []*Card{NewCard(securechannel.SCP03, 0x70), NewCard(securechannel.SCP02, 0x15), NewCard(securechannel.SCP01, 0x05)} {
		v := gp.KeyVersion(0x02)
		other := gp.KeyVersion(0x04)
		if c.Protocol != securechannel.SCP03 {
			v, other = 0x05, 0x06
		}
		thief := NewCard(c.Protocol, c.Option)
		thief.KDD, thief.CUID = c.KDD, c.CUID
		c.Changeover(t, f.Service, Site, v)
		c.Check(t, f.Service)
		for _, version := range []gp.KeyVersion{v, other} {
			if _, err := thief.wrap(t, f.Service, Site, version); !errors.Is(err, tks.ErrDenied) {
				t.Errorf("version %v for a card keyed before: %v, want ErrDenied", version, err)
			}
		}
		thief.Check(t, f.Service) // published keys open their sessions all the same
		c.Changeover(t, f.Service, Site, other)
		c.Check(t, f.Service)

		if err := f.Release(t.Context(), c.KDD); err != nil {
			t.Fatal(err)
		}
		if _, err := thief.wrap(t, f.Service, Site, other); err != nil {
			t.Errorf("after the release: %v", err)
		}
		if _, err := thief.wrap(t, f.Service, Site, v); !errors.Is(err, tks.ErrDenied) {
			t.Errorf("a second changeover after one release: %v, want ErrDenied", err)
		}
		if err := f.Release(t.Context(), NewCard(c.Protocol, c.Option).KDD); err == nil {
			t.Error("released a card that was never keyed")
		}
	}
}

// testCutChangeover: while the new keys are not proved, the same changeover is the
// same grant, with the same keys; another one is refused.
func testCutChangeover(t *testing.T, f Fixture) {
	c := NewCard(securechannel.SCP03, 0x70)
	first, err := c.wrap(t, f.Service, Site, 0x02)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.wrap(t, f.Service, Site, 0x02)
	if err != nil || again.KCVs != first.KCVs {
		t.Errorf("the same changeover again: check values %v, want %v, %v", again.KCVs, first.KCVs, err)
	}
	if _, err := c.wrap(t, f.Service, Site, 0x04); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("another changeover: %v, want ErrDenied", err)
	}
	if _, err := c.wrap(t, f.Service, tks.Factory, 0x01); err != nil { // nothing secret in it
		t.Errorf("to the factory keys: %v", err)
	}
	c.Changeover(t, f.Service, Site, 0x02)
	c.Check(t, f.Service)
}

func testZeroKDD(t *testing.T, f Fixture) {
	c := NewCard(securechannel.SCP03, 0x70)
	c.KDD = gp.KDD{}
	c.Check(t, f.Service)
	if _, err := c.wrap(t, f.Service, Site, 0x02); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("%v, want ErrDenied", err)
	}
}

// testRetired: a retired version takes no new card and serves those it has. What no
// card can have is refused as unknown.
func testRetired(t *testing.T, f Fixture) {
	c, late := NewCard(securechannel.SCP03, 0x70), NewCard(securechannel.SCP03, 0x70)
	c.Changeover(t, f.Service, Site, retire)
	if err := f.Retire(t.Context(), Site, retire); err != nil {
		t.Fatal(err)
	}
	c.Check(t, f.Service)
	if _, err := late.wrap(t, f.Service, Site, retire); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("a new card for a retired version: %v, want ErrDenied", err)
	}
	c.Changeover(t, f.Service, Site, 0x02)
	c.Check(t, f.Service)
	late.Changeover(t, f.Service, Site, 0x02) // the refusal has used up no grant
	for _, v := range []gp.KeyVersion{0x00, 0x7E, 0x80, 0xFF} {
		if _, err := NewCard(securechannel.SCP03, 0x70).wrap(t, f.Service, Site, v); !errors.Is(err, tks.ErrUnknownKeyVersion) {
			t.Errorf("new version %v: %v, want ErrUnknownKeyVersion", v, err)
		}
	}
}
