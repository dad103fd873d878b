package local

import (
	"context"
	"errors"

	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/securechannel/scp03"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// testCard is a KDD that no card has: its first two bytes are the end of an AID.
var testCard = gp.KDD{0xFF, 0xFF, 'T', 'E', 'S', 'T', 0xFF, 0xFF, 0xFF, 0xFF}

func (s *Service) testKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) (err error) {
	masters, err := s.find(ctx, name, v)
	if err != nil {
		return err
	}
	used := ciphers(masters[kdf.ENC])
	for _, c := range used {
		if err := hsm.SelfTest(ctx, s.cfg.Vault, c); err != nil {
			return err
		}
	}
	if masters[kdf.ENC].KDF == kdf.PIV {
		return s.testSecrets(ctx, masters[kdf.ENC])
	}
	c, err := s.open(ctx, testProof(name, v, used[len(used)-1]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.work.Close()) }()
	return hsm.Together(ctx, c.work, func() error {
		defer c.session.wipe()
		return c.round(ctx)
	})
}

// ciphers are what a master key and the card keys out of it need, the latter last.
func ciphers(m hsm.Master) []kdf.Cipher {
	own := m.Kind.Cipher()
	d, err := kdf.Sample(m.KDF, kdf.Master{Cipher: own, Size: m.Kind.Size()})
	if err != nil || d.Cipher == own {
		return []kdf.Cipher{own}
	}
	return []kdf.Cipher{own, d.Cipher}
}

// testProof is a proof without the cryptogram.
func testProof(name tks.KeySetName, v gp.KeyVersion, cipher kdf.Cipher) tks.CardProof {
	p := tks.CardProof{
		KeySet: name, KDD: testCard, KeyVersion: v, Protocol: securechannel.SCP03,
		Option: securechannel.Option(scp03.RMAC), HostChallenge: make([]byte, 8), CardChallenge: make([]byte, 8), CardCryptogram: make([]byte, 8),
	}
	if cipher == kdf.DES {
		p.Protocol, p.Option = securechannel.SCP02, 0x15
		p.Counter, p.CardChallenge = make([]byte, 2), make([]byte, 6)
	}
	return p
}

// round computes the proof, verifies it (twice the same way, through the vault
// again), opens a session and wraps the set under itself.
func (c *card) round(ctx context.Context) error {
	want, err := c.session.proof(ctx)
	if err != nil {
		return err
	}
	c.CardCryptogram = want
	if err := c.verify(ctx); err != nil {
		return err
	}
	keys, err := c.session.all(ctx)
	securechannel.SessionKeys{ENC: keys.ENC, MAC: keys.MAC, RMAC: keys.RMAC}.Wipe()
	if err != nil || !c.keys.code.Diversified() {
		return err
	}
	_, err = c.payload(ctx, c.keys)
	return err
}
