package coolkey

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tps"
	"inkan/tps/profile"
)

// userPIN is the number of the person's PIN.
const userPIN = 0

// Open implements tps.Family.
func (Family) Open(ctx context.Context, l tps.Link, p profile.Profile) (tps.Applet, error) {
	a := &applet{link: l, profile: p}
	if _, err := a.channel(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// applet is a CoolKey applet being personalised.
type applet struct {
	link    tps.Link
	profile profile.Profile
}

func (a *applet) channel(ctx context.Context) (*securechannel.Session, error) {
	return a.link.Channel(ctx, coolkey.InstanceAID())
}

// SetPIN implements tps.Applet. A new applet has no PIN: one is created with a
// random value first, so that no well-known PIN ever works. An existing PIN keeps
// the number of tries it was created with.
func (a *applet) SetPIN(ctx context.Context, pin secret.PIN, tries int) error {
	s, err := a.channel(ctx)
	if err != nil {
		return err
	}
	initial, err := randomPIN()
	if err != nil {
		return err
	}
	defer initial.Wipe()
	return forGood(coolkey.CreateAndSetPIN(ctx, s, userPIN, tries, initial, pin))
}

// forGood marks what the applet answers to a command that it would answer the same way
// again.
func forGood(err error) error {
	return tps.FinalIf(err, coolkey.SWNoMemory, coolkey.SWUnsupported, coolkey.SWIncorrectAlgorithm, coolkey.SWInvalidParameter,
		coolkey.SWLocationUnsupported, coolkey.SWKeyTypeUnsupported, coolkey.SWKeySize, apdu.SWWrongData, apdu.SWFuncNotSupported,
		apdu.SWNoMemory, apdu.SWIncorrectP1P2, apdu.SWInsNotSupported)
}

func randomPIN() (secret.PIN, error) {
	raw := secret.Random(8)
	defer raw.Wipe()
	text := make([]byte, 16)
	hex.Encode(text, raw.Bytes())
	return secret.NewPIN(text)
}

// GenerateKey implements tps.Applet. The proof is the new key's signature over
// its public half and a challenge that only this card can decrypt.
func (a *applet) GenerateKey(ctx context.Context, k profile.Key) (tps.KeyResult, error) {
	s, err := a.channel(ctx)
	if err != nil {
		return tps.KeyResult{}, err
	}
	plain, err := a.link.Keys().Random(ctx, coolkey.ChallengeLen)
	if err != nil {
		return tps.KeyResult{}, fmt.Errorf("drawing the challenge: %w", err)
	}
	challenge := secret.New(plain)
	defer challenge.Wipe()
	wrapped, err := a.link.Keys().Encrypt(ctx, challenge)
	if err != nil {
		return tps.KeyResult{}, err
	}
	generate := coolkey.GenerateAndReadRSA
	if k.EC() {
		generate = coolkey.GenerateAndReadEC
	}
	res, err := generate(ctx, s, slots(k), k.Bits(), wrapped)
	if err != nil {
		return tps.KeyResult{}, forGood(err)
	}
	if err := coolkey.VerifyProof(res, challenge.Bytes()); err != nil {
		return tps.KeyResult{}, tps.Final(fmt.Errorf("the card does not prove that it has the key: %w", err))
	}
	if got := bits(res.Public); got != k.Bits() {
		return tps.KeyResult{}, tps.Final(fmt.Errorf("the card made a key of %d bits instead of %d", got, k.Bits()))
	}
	return tps.KeyResult{Public: res.Public, Proof: res.Proof}, nil
}

func bits(pub any) int {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize
	}
	return 0
}

func slots(k profile.Key) coolkey.Slots {
	return coolkey.Slots{
		Private: coolkey.KeyNumber(k.PrivateSlot()), Public: coolkey.KeyNumber(k.PublicSlot()),
		Owner: coolkey.Owner(k.User), Usage: byte(k.Usage),
	}
}

// flags are the capabilities of a key in the form of the combined object.
func flags(k profile.Key) (f struct{ private, public coolkey.Fixed }, err error) {
	if f.private, err = coolkey.ParseCapabilities(k.Private); err != nil {
		return f, fmt.Errorf("key %s, private: %w", k.Type, err)
	}
	if f.public, err = coolkey.ParseCapabilities(k.Public); err != nil {
		return f, fmt.Errorf("key %s, public: %w", k.Type, err)
	}
	return f, nil
}

// Write implements tps.Applet: the combined object replaces its predecessor, is
// read back and compared. A cut in between leaves none or half of one; the keys
// are there, and writing again repairs it.
func (a *applet) Write(ctx context.Context, c tps.Contents) error {
	s, err := a.channel(ctx)
	if err != nil {
		return err
	}
	version, size, err := a.nextVersion(ctx)
	if err != nil {
		return err
	}
	room := 0
	if len(c.Former) > 0 {
		if room, err = a.room(ctx, size); err != nil {
			return err
		}
	}
	z, err := a.combined(c, version, room)
	if err != nil {
		return err
	}
	entries := coolkey.ReplaceObjectEntries(coolkey.Channel(), coolkey.IDCombined, coolkey.TokenObjectACL, z)
	var reads []apdu.Entry // in the same list: one round trip less
	if a.profile.Compat.ReadBack {
		reads = coolkey.ReadObjectEntries(coolkey.Channel(), coolkey.IDCombined, 0, len(z))
	}
	answers, err := apdu.RunAll(ctx, s, slices.Concat(entries, reads))
	if err != nil {
		return forGood(fmt.Errorf("writing the combined object and reading it back: %w", err))
	}
	if len(reads) == 0 {
		return nil
	}
	back, err := coolkey.JoinReads(reads, answers[len(entries):])
	if err != nil {
		return fmt.Errorf("reading the combined object back: %w", err)
	}
	if !bytes.Equal(back, z) {
		return errors.New("the card does not hold what was written to it")
	}
	return nil
}

// combined is the object with as many former certificates as there is room for in it,
// bytes.
func (a *applet) combined(c tps.Contents, version uint16, room int) ([]byte, error) {
	certs := make([]coolkey.Certificate, len(c.Certificates))
	for i, cert := range c.Certificates {
		f, err := flags(cert.Key)
		if err != nil {
			return nil, err
		}
		certs[i] = coolkey.Certificate{
			Number: cert.Key.Cert, Label: cert.Label, DER: cert.DER, PublicKey: cert.Public, Private: f.private, Public: f.public,
		}
	}
	z, err := coolkey.NewCombined(a.link.Card().CUID, version, c.Label, certs)
	if err != nil {
		return nil, fmt.Errorf("building the combined object: %w", err)
	}
	out, err := z.Encode(a.profile.Enroll.Compress)
	for _, f := range c.Former {
		if z.AddFormer(coolkey.Former{Of: f.Key.Cert, Label: f.Label, DER: f.DER}) != nil {
			break
		}
		more, err := z.Encode(a.profile.Enroll.Compress)
		if err != nil || len(more) > room {
			break // the older ones have to go
		}
		out = more
	}
	return out, err
}

// room is how long an object may be in place of one of size bytes.
func (a *applet) room(ctx context.Context, size int) (int, error) {
	s, err := coolkey.ReadStatus(ctx, a.link.Doer())
	if err != nil {
		return 0, fmt.Errorf("asking how much room the card has: %w", err)
	}
	if size > 0 {
		return int(s.HeapFree) + size, nil
	}
	return int(s.HeapFree) - coolkey.ObjectOverhead, nil
}

// nextVersion is a version that differs from the object's on the card, whose size it
// tells too: clients cache by it. An unreadable or torn predecessor counts as none.
func (a *applet) nextVersion(ctx context.Context) (version uint16, size int, err error) {
	d, err := apdu.ReadAhead(ctx, a.link.Doer(), coolkey.ListObjectsEntries())
	if err != nil {
		return 0, 0, fmt.Errorf("listing the card's objects: %w", err)
	}
	objects, err := coolkey.ListObjects(ctx, d)
	if err != nil {
		return 0, 0, fmt.Errorf("listing the card's objects: %w", err)
	}
	for _, o := range objects {
		if o.ID != coolkey.IDCombined || o.Size < 4 {
			continue
		}
		s, err := a.channel(ctx)
		if err != nil {
			return 0, 0, err
		}
		head, err := coolkey.ReadObject(ctx, s, coolkey.Channel(), o.ID, 0, 4)
		if err != nil {
			return 0, 0, err
		}
		return binary.BigEndian.Uint16(head[2:]) + 1, o.Size, nil
	}
	r := secret.Random(2).Bytes()
	return binary.BigEndian.Uint16(r) % 1000, 0, nil
}

// Finish implements tps.Applet.
func (a *applet) Finish(ctx context.Context) error {
	s, err := a.channel(ctx)
	if err != nil {
		return err
	}
	es := []apdu.Entry{{Command: coolkey.SetLifeCycleCommand(coolkey.Personalized)}}
	if a.profile.Compat.ClearSlots && len(a.profile.Key) > 0 {
		keep := make([]coolkey.Slots, len(a.profile.Key))
		for i, k := range a.profile.Key {
			keep[i] = slots(k)
		}
		// Old applets refuse; nothing is lost.
		es = append(es, apdu.Entry{Command: coolkey.ClearKeySlotsCommand(keep), Mode: apdu.Anyway})
	}
	if _, err := apdu.RunAll(ctx, s, es); err != nil {
		return fmt.Errorf("marking the card as personalised: %w", err)
	}
	return nil
}
