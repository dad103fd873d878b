package tps_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/token"
)

// keptKeys is an archive that keeps keys in memory.
type keptKeys struct {
	mu    sync.Mutex
	keys  []tps.ArchivedKey
	down  error // of Ready
	fails error // of Keep
	late  bool  // Keep fails when it has kept the key
}

func (a *keptKeys) Ready(context.Context) error { return a.down }

func (a *keptKeys) Keep(_ context.Context, k tps.ArchivedKey) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fails == nil || a.late {
		k.Private = k.Private.Clone()
		a.keys = append(a.keys, k)
	}
	return a.fails
}

// archive gives the site an archive.
func (s *site) archive() *keptKeys {
	a := &keptKeys{}
	s.adjust = func(c *tps.Config) { c.Archive = a }
	return a
}

// of is the archived key of a certificate, which it has to open.
func (a *keptKeys) of(c token.Certificate) (tps.ArchivedKey, error) {
	x, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return tps.ArchivedKey{}, err
	}
	pub, err := x509.ParsePKIXPublicKey(x.RawSubjectPublicKeyInfo)
	if err != nil {
		return tps.ArchivedKey{}, err
	}
	i := slices.IndexFunc(a.keys, func(k tps.ArchivedKey) bool { return equalKeys(k.Public, pub) })
	if i < 0 {
		return tps.ArchivedKey{}, fmt.Errorf("the key of certificate %s is not archived", c.Serial)
	}
	k := a.keys[i]
	private, err := x509.ParsePKCS8PrivateKey(k.Private.Bytes())
	if err != nil {
		return k, err
	}
	if !equalKeys(private.(interface{ Public() crypto.PublicKey }).Public(), pub) {
		return k, errors.New("another private key is archived")
	}
	if want := c.Operation + "/" + c.KeyType + "/"; !strings.HasPrefix(k.ID, want) || k.Type != c.KeyType || k.UserID != c.UserID || k.CUID != c.CUID || k.Profile != c.Profile {
		return k, fmt.Errorf("archived as %+v, want an id that begins with %s", k, want)
	}
	return k, nil
}

func equalKeys(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

// encryption is the active encryption certificate of a card.
func (s *site) encryption(cuid apdu.CUID) (token.Certificate, error) {
	certs, err := s.db.CertificatesOf(context.Background(), cuid)
	i := slices.IndexFunc(certs, func(c token.Certificate) bool { return c.KeyType == "encryption" && c.State == token.CertActive })
	if i < 0 {
		return token.Certificate{}, errors.Join(err, errors.New("no active encryption certificate"))
	}
	return certs[i], err
}

// TestDEF28NoArchive: where nothing archives the keys that a profile wants archived, an
// enrollment is refused before the card is touched, and a PIN reset is not.
func TestDEF28NoArchive(t *testing.T) {
	t.Parallel()
	for _, f := range []cutFamily{coolkeyCuts, pivCuts} {
		t.Run("family="+f.name, func(t *testing.T) {
			t.Parallel()
			s, card := newSite(t), newCard(t, f.model)
			s.put(f.profile("test", nil))
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			s.put(f.profile("test", serverMade[f.name]))
			who, err := s.run(tps.OpEnroll, card)
			wantStatus(t, err, tps.StatusArchiveOff)
			if !strings.Contains(err.Error(), "profile test archives keys, and this node has no archive") || who.asked != 0 || s.openOn(t, onlyToken(t, s)) != nil {
				t.Errorf("%v, asked for %d PINs", err, who.asked)
			}
			f.unharmed(t, s, card, onlyToken(t, s))
			_, err = s.run(tps.OpPINReset, card)
			must(t, err)
			s.archive().down = errors.New("no answer")
			_, err = s.run(tps.OpEnroll, card)
			wantStatus(t, err, tps.StatusEnroll)
			if !strings.Contains(err.Error(), "keys cannot be archived now: no answer") {
				t.Error(err)
			}
			f.unharmed(t, s, card, onlyToken(t, s))
		})
	}
}

// TestArchiveFails: no card gets a key that the archive did not take; asked again the
// card gets another one, and the one that the archive has alone has no certificate. An
// enrollment whose keys the card has needs neither the archive nor, on PIV cards, a PIN.
func TestArchiveFails(t *testing.T) {
	t.Parallel()
	for _, f := range []cutFamily{coolkeyCuts, pivCuts} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("family=%s/late=%v", f.name, late), func(t *testing.T) {
				t.Parallel()
				s, card := newSite(t), newCard(t, f.model)
				s.put(onlyEncryption(f))
				a := s.archive()
				a.fails, a.late = errors.New("no space left on device"), late
				wire := &tap{Card: card}
				_, err := s.run(tps.OpEnroll, wire)
				wantStatus(t, err, tps.StatusEnroll)
				if !strings.Contains(err.Error(), "archiving the key, which the card did not get: no space left") {
					t.Error(err)
				}
				for _, cmd := range wire.sent {
					if cmd[1] == piv.InsImport || cmd[0]&0x80 != 0 && cmd[1] == 0x0A {
						t.Errorf("the card got %X", cmd)
					}
				}
				a.fails = nil
				whole := s.ca
				s.ca = &deaf{Authority: whole, n: 9}
				_, err = s.run(tps.OpEnroll, card)
				wantStatus(t, err, tps.StatusEnroll)
				s.ca, a.down = whole, errors.New("not needed any more")
				who, err := s.run(tps.OpEnroll, card)
				must(t, err)
				cert, err := s.encryption(card.Info().CUID)
				must(t, err)
				k, err := a.of(cert)
				must(t, err)
				if want := map[bool]int{false: 1, true: 2}[late]; len(a.keys) != want || !strings.HasSuffix(k.ID, "/encryption/2") || who.asked != 0 {
					t.Errorf("%d keys archived, want %d; id %s, asked for %d PINs", len(a.keys), want, k.ID, who.asked)
				}
			})
		}
	}
}
