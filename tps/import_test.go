package tps_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	familycoolkey "inkan/tps/coolkey"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// bare is a tps.Link to a card with factory keys, without a runner around it.
type bare struct {
	conn    *apdu.Conn
	keys    tks.Service
	cuid    apdu.CUID
	session *securechannel.Session
}

func newBare(t *testing.T, s *site, card *sim.Card) *bare {
	t.Helper()
	b := &bare{keys: s.local, cuid: cuidOf(t, card), conn: apdu.NewConn(card)}
	t.Cleanup(func() {
		if b.session != nil {
			b.session.Close()
		}
	})
	return b
}

func (b *bare) Doer() apdu.Doer                    { return b.conn }
func (b *bare) Keys() tps.CardKeys                 { return b }
func (b *bare) Card() tps.Card                     { return tps.Card{CUID: b.cuid} }
func (b *bare) Progress(context.Context, int, int) {}

func (b *bare) Channel(ctx context.Context, aid apdu.AID) (_ *securechannel.Session, err error) {
	if b.session != nil {
		return b.session, nil
	}
	req := securechannel.Request{HostChallenge: secret.Random(8).Bytes(), Choose: func(securechannel.InitUpdate) securechannel.Level { return securechannel.LevelCENC }}
	b.session, err = securechannel.Open(ctx, apdu.Behind(b.conn, gp.SelectCommand(aid)), req,
		func(ctx context.Context, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
			rep, err := b.keys.DeriveSession(ctx, tks.SessionRequest{CardProof: tks.Proof(tks.Factory, b.cuid, iu)})
			return securechannel.SessionKeys{ENC: rep.ENC, MAC: rep.MAC, RMAC: rep.RMAC}, err
		})
	return b.session, err
}

func (b *bare) Random(ctx context.Context, n int) ([]byte, error) { return b.keys.Random(ctx, n) }

func (b *bare) Encrypt(ctx context.Context, data secret.Secret) ([]byte, error) {
	rep, err := b.keys.Encrypt(ctx, tks.EncryptRequest{CardProof: tks.Proof(tks.Factory, b.cuid, b.session.Info()), Data: data})
	return rep.Data, err
}

func (b *bare) Secret(context.Context, token.AppletKeys, tks.Use) (secret.Secret, error) {
	return secret.Secret{}, errors.New("an applet without keys of its own")
}

// objectsOn lists the objects on a card.
func objectsOn(t *testing.T, card *sim.Card) (ids []coolkey.ObjectID) {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	objects, err := coolkey.ListObjects(t.Context(), conn)
	must(t, err)
	for _, o := range objects {
		ids = append(ids, o.ID)
	}
	return ids
}

// TestDEF73LeftoverOfAnImport: the object in which a private key came to the card
// does not stay there, and one that a cut left does not keep a card from being
// enrolled.
func TestDEF73LeftoverOfAnImport(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for _, model := range []string{"gp-scp02", "gp-scp03"} {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if model == "gp-scp02" {
				s.put(ecProfile("test", map[string]string{`set = "site"`: `set = "des"`}))
			}
			card := newCard(t, model)
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			link := newBare(t, s, card)
			applet, err := familycoolkey.Family{}.Open(t.Context(), link, profile.Profile{})
			must(t, err)
			must(t, applet.ImportKey(t.Context(), profile.Key{Type: "archived", Cert: 3, Alg: "rsa-2048"}, secret.New(slices.Clone(der))))
			if ids := objectsOn(t, card); slices.Contains(ids, coolkey.IDImport) || !slices.Contains(ids, coolkey.IDCombined) {
				t.Errorf("objects %v after an import", ids)
			}
			must(t, leaveBehind(t.Context(), newBare(t, s, card)))
			if ids := objectsOn(t, card); ids[0] != coolkey.IDImport {
				t.Fatalf("objects %v", ids)
			}
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			if certs := combinedOn(t, card).Certificates(); len(certs) != 2 {
				t.Errorf("certificates %+v", certs)
			}
		})
	}
}

// leaveBehind makes the object that a cut import leaves.
func leaveBehind(ctx context.Context, l *bare) error {
	s, err := l.Channel(ctx, coolkey.InstanceAID())
	if err != nil {
		return fmt.Errorf("opening a channel: %w", err)
	}
	o := coolkey.ObjectInfo{ID: coolkey.IDImport, Size: 64, ACL: coolkey.TokenObjectACL}
	return errors.Join(coolkey.CreateObject(ctx, s, coolkey.Channel(), o),
		coolkey.WriteObject(ctx, s, coolkey.Channel(), coolkey.IDImport, 0, []byte{1, 9, 4, 0, 0, 0, 0}))
}
