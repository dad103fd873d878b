package tkstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
)

func testRandom(t *testing.T, f Fixture) {
	for _, n := range []int{1, 8, 1024} {
		a, err := f.Service.Random(t.Context(), n)
		if err != nil || len(a) != n {
			t.Errorf("n=%d: %d bytes, %v", n, len(a), err)
		}
		b, err := f.Service.Random(t.Context(), n)
		if err != nil || n >= 8 && bytes.Equal(a, b) {
			t.Errorf("n=%d: the same twice, %v", n, err)
		}
	}
	for _, n := range []int{-1, 0, 1025} {
		if b, err := f.Service.Random(t.Context(), n); err == nil {
			t.Errorf("n=%d: %d bytes", n, len(b))
		}
	}
}

// factoryCards is one card per protocol and option that the service supports.
func factoryCards() []*Card {
	var out []*Card
	for _, i := range []securechannel.Option{0x05, 0x15} {
		out = append(out, NewCard(securechannel.SCP01, i))
	}
	for _, i := range []securechannel.Option{0x05, 0x15, 0x45, 0x55, 0x35, 0x75} {
		out = append(out, NewCard(securechannel.SCP02, i))
	}
	for _, i := range []securechannel.Option{0x00, 0x10, 0x20, 0x30, 0x60, 0x70, 0x01, 0x11, 0x21, 0x31, 0x61, 0x71} {
		out = append(out, NewCard(securechannel.SCP03, i))
	}
	return out
}

func (c *Card) name() string { return fmt.Sprintf("scp=%d i=%v", c.Protocol, c.Option) }

func testFactorySession(t *testing.T, f Fixture) {
	for _, c := range factoryCards() {
		t.Run(c.name(), func(t *testing.T) {
			c.Check(t, f.Service)
			c.KeyVersion = 0x01 // any version is factory's
			c.Check(t, f.Service)
		})
	}
}

func testEncrypt(t *testing.T, f Fixture) {
	for _, c := range factoryCards() {
		t.Run(c.name(), func(t *testing.T) {
			for _, n := range []int{16, 32} {
				p, plain := c.Proof(t), random(n)
				r, err := f.Service.Encrypt(t.Context(), tks.EncryptRequest{CardProof: p, Data: secret.New(bytes.Clone(plain))})
				if err != nil {
					t.Fatal(err)
				}
				got, err := c.Decrypt(p, r.Data)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("n=%d: the card decrypts %d bytes to something else, %v", n, len(r.Data), err)
				}
			}
			for _, n := range []int{0, 8, 15, 24, 48} {
				r, err := f.Service.Encrypt(t.Context(), tks.EncryptRequest{CardProof: c.Proof(t), Data: secret.Random(n)})
				if err == nil {
					t.Errorf("n=%d: %d bytes", n, len(r.Data))
				}
			}
		})
	}
}

// ask sends a proof through every call that takes one; all must fail alike.
func ask(ctx context.Context, s tks.Service, p tks.CardProof, new tks.KeySetName) map[string]error {
	out := map[string]error{}
	sr, err := s.DeriveSession(ctx, tks.SessionRequest{CardProof: p})
	out["DeriveSession"] = handedOut(err, sr.ENC.Bytes(), sr.MAC.Bytes(), sr.RMAC.Bytes())
	er, err := s.Encrypt(ctx, tks.EncryptRequest{CardProof: p, Data: secret.Random(16)})
	out["Encrypt"] = handedOut(err, er.Data)
	kr, err := s.WrapKeySet(ctx, tks.KeySetRequest{CardProof: p, NewKeySet: new, NewKeyVersion: 2})
	out["WrapKeySet"] = handedOut(err, kr.Data)
	return out
}

// handedOut turns an error that comes with data into none.
func handedOut(err error, data ...[]byte) error {
	for _, d := range data {
		if len(d) > 0 {
			return nil
		}
	}
	return err
}

func testWrongCryptogram(t *testing.T, f Fixture) {
	for _, c := range factoryCards() {
		t.Run(c.name(), func(t *testing.T) {
			for _, spoil := range []func(*tks.CardProof){
				func(p *tks.CardProof) { p.CardCryptogram[0] ^= 0x80 },
				func(p *tks.CardProof) { p.CardCryptogram[len(p.CardCryptogram)-1] ^= 1 },
				func(p *tks.CardProof) { p.HostChallenge[0] ^= 1 },
				func(p *tks.CardProof) { p.CardChallenge[len(p.CardChallenge)-1] ^= 1 },
				func(p *tks.CardProof) { clear(p.CardCryptogram) },
			} {
				p := c.Proof(t)
				spoil(&p)
				for call, err := range ask(t.Context(), f.Service, p, tks.Factory) {
					if !errors.Is(err, tks.ErrCryptogram) {
						t.Errorf("%s: %v, want ErrCryptogram", call, err)
					}
				}
			}
		})
	}
}

// testForeignIdentity: a keyed card that claims another card's KDD, and a factory
// card that claims to be keyed, do not prove themselves.
func testForeignIdentity(t *testing.T, f Fixture) {
	a, b := NewCard(securechannel.SCP03, 0x70), NewCard(securechannel.SCP03, 0x70)
	a.Changeover(t, f.Service, Site, 0x02)
	p := a.Proof(t)
	p.KDD = b.KDD
	q := b.Proof(t)
	q.KeySet, q.KeyVersion = Site, 0x02
	for _, proof := range []tks.CardProof{p, q} {
		for call, err := range ask(t.Context(), f.Service, proof, Site) {
			if !errors.Is(err, tks.ErrCryptogram) {
				t.Errorf("%s: %v, want ErrCryptogram", call, err)
			}
		}
	}
}

func testUnknown(t *testing.T, f Fixture) {
	for _, c := range []struct {
		name  string
		card  *Card
		spoil func(*tks.CardProof)
	}{
		{"set", NewCard(securechannel.SCP03, 0x70), func(p *tks.CardProof) { p.KeySet = "nobody" }},
		{"set name", NewCard(securechannel.SCP03, 0x70), func(p *tks.CardProof) { p.KeySet = "../keys" }},
		{"no set name", NewCard(securechannel.SCP03, 0x70), func(p *tks.CardProof) { p.KeySet = "" }},
		{"version", NewCard(securechannel.SCP03, 0x70), func(p *tks.CardProof) { p.KeySet, p.KeyVersion = Site, 0x7E }},
		{"AES keys under SCP02", NewCard(securechannel.SCP02, 0x15), func(p *tks.CardProof) { p.KeySet, p.KeyVersion = Site, 0x02 }},
		{"AES keys under SCP01", NewCard(securechannel.SCP01, 0x05), func(p *tks.CardProof) { p.KeySet, p.KeyVersion = Site, 0x02 }},
		{"DES keys under SCP03", NewCard(securechannel.SCP03, 0x70), func(p *tks.CardProof) { p.KeySet, p.KeyVersion = Site, 0x05 }},
	} {
		p := c.card.Proof(t)
		c.spoil(&p)
		for call, err := range ask(t.Context(), f.Service, p, tks.Factory) {
			if !errors.Is(err, tks.ErrUnknownKeyVersion) {
				t.Errorf("%s: %s: %v, want ErrUnknownKeyVersion", c.name, call, err)
			}
		}
	}
}

func testMalformed(t *testing.T, f Fixture) {
	for _, i := range []securechannel.Option{0x70, 0x71, 0x00} {
		for name, spoil := range map[string]func(*tks.CardProof){
			"no host challenge":    func(p *tks.CardProof) { p.HostChallenge = nil },
			"long host challenge":  func(p *tks.CardProof) { p.HostChallenge = random(24) },
			"short card challenge": func(p *tks.CardProof) { p.CardChallenge = p.CardChallenge[1:] },
			"no cryptogram":        func(p *tks.CardProof) { p.CardCryptogram = nil },
			"half a cryptogram":    func(p *tks.CardProof) { p.CardCryptogram = p.CardCryptogram[:len(p.CardCryptogram)/2] },
			"counter":              func(p *tks.CardProof) { p.Counter = append(p.Counter, 1) },
			"option 40":            func(p *tks.CardProof) { p.Option = 0x40 },
			"as SCP01":             func(p *tks.CardProof) { p.Protocol, p.Option = securechannel.SCP01, 0x55 },
			"as SCP02":             func(p *tks.CardProof) { p.Protocol = securechannel.SCP02 },
		} {
			p := NewCard(securechannel.SCP03, i).Proof(t)
			spoil(&p)
			for call, err := range ask(t.Context(), f.Service, p, tks.Factory) {
				if err == nil {
					t.Errorf("%s: %s of i=%v was answered", name, call, i)
				}
			}
		}
	}
}

// testRefused: what is not there is refused, not guessed.
func testRefused(t *testing.T, f Fixture) {
	for name, spoil := range map[string]func(*tks.CardProof){
		"SCP01 i=55": func(p *tks.CardProof) {
			p.Protocol, p.Option, p.Counter, p.CardChallenge = securechannel.SCP01, 0x55, nil, random(8)
		},
		"implicit SCP02": func(p *tks.CardProof) { p.Option = 0x1A },
		"one base key":   func(p *tks.CardProof) { p.Option = 0x14 },
		"SCP11":          func(p *tks.CardProof) { p.Protocol = 0x11 },
	} {
		p := NewCard(securechannel.SCP02, 0x15).Proof(t)
		spoil(&p)
		for call, err := range ask(t.Context(), f.Service, p, tks.Factory) {
			if err == nil || errors.Is(err, tks.ErrUnavailable) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

func testReplay(t *testing.T, f Fixture) {
	c := NewCard(securechannel.SCP03, 0x70)
	p := c.Proof(t)
	first, err := f.Service.DeriveSession(t.Context(), tks.SessionRequest{CardProof: p})
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Service.DeriveSession(t.Context(), tks.SessionRequest{CardProof: p})
	if err != nil || !first.ENC.Equal(again.ENC) || !first.MAC.Equal(again.MAC) || !first.RMAC.Equal(again.RMAC) {
		t.Errorf("a recorded proof gives other keys than those of its session: %v", err)
	}
}

func testConcurrent(t *testing.T, f Fixture) {
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			c, set := NewCard(securechannel.SCP03, 0x70), []Version{{Site, 0x02, 0}, {Site, 0x04, 0}}
			if n%2 == 1 {
				c, set = NewCard(securechannel.SCP02, 0x55), []Version{{Site, 0x05, 0}, {Site, 0x06, 0}}
			}
			for _, v := range set {
				if err := c.try(t, f.Service, v); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// try is Changeover and Check for goroutines, which may not call FailNow.
func (c *Card) try(t *testing.T, s tks.Service, v Version) error {
	req := tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: v.Set, NewKeyVersion: v.Version}
	reply, err := s.WrapKeySet(t.Context(), req)
	if err != nil {
		return fmt.Errorf("changeover to %s %v: %w", v.Set, v.Version, err)
	}
	c.PutKey(t, req, reply)
	c.Check(t, s)
	return nil
}

func testCancelled(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range ask(ctx, f.Service, NewCard(securechannel.SCP03, 0x70).Proof(t), tks.Factory) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", call, err)
		}
	}
	if _, err := f.Service.Random(ctx, 8); !errors.Is(err, context.Canceled) {
		t.Errorf("Random: %v, want context.Canceled", err)
	}
}
