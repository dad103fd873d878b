package sim_test

import (
	"context"
	"encoding/hex"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
	"inkan/sim"
)

// staticKeys are card keys as a key service would hold them.
type staticKeys struct{ enc, mac, dek []byte }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const factory = "404142434445464748494A4B4C4D4E4F"

func factoryKeys(t *testing.T) staticKeys {
	k := unhex(t, factory)
	return staticKeys{k, k, k}
}

// source derives session keys from static keys.
func (k staticKeys) source(_ context.Context, iu securechannel.InitUpdate) (s securechannel.SessionKeys, err error) {
	switch iu.Protocol {
	case securechannel.SCP01:
		return k.source01(iu)
	case securechannel.SCP02:
		return k.source02(iu)
	}
	ctx := scp03.Context(iu.HostChallenge, iu.CardChallenge)
	for _, d := range []struct {
		to     *secret.Secret
		static []byte
		d      scp03.Derivation
	}{{&s.ENC, k.enc, scp03.SENC}, {&s.MAC, k.mac, scp03.SMAC}, {&s.RMAC, k.mac, scp03.SRMAC}} {
		b, err := scp03.SessionKey(d.static, d.d, ctx)
		if err != nil {
			return s, err
		}
		*d.to = secret.New(b)
	}
	return s, nil
}

func (k staticKeys) source01(iu securechannel.InitUpdate) (s securechannel.SessionKeys, err error) {
	enc, err := scp01.SessionKey(k.enc, iu.HostChallenge, iu.CardChallenge)
	if err != nil {
		return s, err
	}
	mac, err := scp01.SessionKey(k.mac, iu.HostChallenge, iu.CardChallenge)
	return securechannel.SessionKeys{ENC: secret.New(enc), MAC: secret.New(mac)}, err
}

func (k staticKeys) source02(iu securechannel.InitUpdate) (s securechannel.SessionKeys, err error) {
	for _, d := range []struct {
		to     *secret.Secret
		static []byte
		c      scp02.Constant
	}{{&s.ENC, k.enc, scp02.SENC}, {&s.MAC, k.mac, scp02.SMAC}, {&s.RMAC, k.mac, scp02.SRMAC}} {
		b, err := scp02.SessionKey(d.static, d.c, [2]byte(iu.Counter))
		if err != nil {
			return s, err
		}
		*d.to = secret.New(b)
	}
	return s, nil
}

// host is an open channel and what is needed to make PUT KEY payloads in it.
type host struct {
	*securechannel.Session
	keys staticKeys
}

func newCard(t *testing.T, cfg sim.Config) *sim.Card {
	t.Helper()
	c, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func request(version gp.KeyVersion, level securechannel.Level) securechannel.Request {
	return securechannel.Request{KeyVersion: version, HostChallenge: []byte("hostchal"), Level: level}
}

// open opens a channel to whatever is selected.
func open(ctx context.Context, d apdu.Doer, keys staticKeys, req securechannel.Request) (host, error) {
	s, err := securechannel.Open(ctx, d, req, keys.source)
	return host{s, keys}, err
}

func mustOpen(t *testing.T, d apdu.Doer, keys staticKeys, req securechannel.Request) host {
	t.Helper()
	h, err := open(t.Context(), d, keys, req)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// putKeyData makes the payload of PUT KEY for a new key set.
func (h host) putKeyData(version gp.KeyVersion, typ keyset.Type, k staticKeys) ([]byte, error) {
	iu := h.Info()
	encrypt := func(plain []byte) ([]byte, error) { return scp03.EncryptDEK(h.keys.dek, plain) }
	switch iu.Protocol {
	case securechannel.SCP01:
		encrypt = func(plain []byte) ([]byte, error) { return scp01.EncryptDEK(h.keys.dek, plain) }
	case securechannel.SCP02:
		sdek, err := scp02.SessionKey(h.keys.dek, scp02.SDEK, [2]byte(iu.Counter))
		if err != nil {
			return nil, err
		}
		encrypt = func(plain []byte) ([]byte, error) { return scp02.EncryptDEK(sdek, plain) }
	}
	data, _, err := keyset.Build(version, keyset.Set{Type: typ,
		ENC: secret.New(append([]byte(nil), k.enc...)), MAC: secret.New(append([]byte(nil), k.mac...)), DEK: secret.New(append([]byte(nil), k.dek...)),
	}, encrypt)
	return data, err
}

// dialect is that of the commands that the card manager takes.
func (h host) dialect() gp.Dialect { return gp.DialectOf(uint8(h.Info().Protocol)) }

func (h host) putKey(ctx context.Context, old, version gp.KeyVersion, typ keyset.Type, k staticKeys) error {
	data, err := h.putKeyData(version, typ, k)
	if err != nil {
		return err
	}
	cmd, err := gp.PutKeyCommand(h.dialect(), old, data)
	if err != nil {
		return err
	}
	_, err = apdu.Run(ctx, h, cmd)
	return err
}

var (
	isd       = apdu.MustAID("A000000003000000")
	ckPackage = apdu.MustAID("627601FF0000")
	ckApplet  = apdu.MustAID("627601FF000000")
)

func coolkeyFile(t *testing.T) []byte {
	t.Helper()
	code, err := loadfile.Synthetic(loadfile.CoolKeyVersion{Protocol: loadfile.Version{Major: 1, Minor: 1}, Applet: loadfile.Version{Major: 1, Minor: 6}, BuildID: 0x66000001})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// loadEntries are the commands that put CoolKey onto a card.
func loadEntries(t *testing.T, d gp.Dialect, blockSize int) []apdu.Entry {
	t.Helper()
	code := coolkeyFile(t)
	es, err := gp.LoadEntries(d, gp.LoadRequest{LoadFile: ckPackage, Domain: isd, CodeSize: len(code)}, code, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	q := gp.InstallRequest{LoadFile: ckPackage, Module: ckApplet, Instance: ckApplet, NonVolatile: 18000, Params: []byte{0, 2, 0x13, 0x88, 0}}
	cmd, err := q.Command(d)
	if err != nil {
		t.Fatal(err)
	}
	return append(es, apdu.Entry{Command: cmd})
}
