// Package coolkey is the CoolKey applet as a [tps.Family]: what tps's operations
// do to a CoolKey card, in the commands of apdu/coolkey. See coolkey-applet.md
// and tps-operations §3.2, §4.2 to §4.7, §5.3.
//
// A Family holds no state of a card and is safe for concurrent use.
package coolkey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/tps"
	"inkan/tps/profile"
)

// Name is the family's name in profiles.
const Name tps.FamilyName = "coolkey"

// Family implements tps.Family.
type Family struct {
	// Applets holds the load files, VERSION.ijc or VERSION.cap.
	Applets fs.FS
}

var (
	_ tps.Family    = Family{}
	_ tps.Preparer  = Family{}
	_ tps.Ordered   = Family{}
	_ tps.Describer = Family{}
	_ tps.Importer  = Family{}

	_ tps.CertificateReader = Family{}
)

// Name implements tps.Family.
func (Family) Name() tps.FamilyName { return Name }

// Probe implements tps.Family: version, memory, PIN state, issuer's address and key
// slots, unless the profile keeps cards from being asked for these.
func (Family) Probe(ctx context.Context, l tps.Link, p profile.Profile) (tps.Contents, error) {
	ahead := coolkey.DescribeEntries()
	if p.Compat.ReadBack {
		ahead = append(ahead, apdu.Entry{Command: coolkey.ReadIssuerInfoCommand(), Mode: apdu.Plain | apdu.Anyway})
	}
	if p.Compat.ListKeys {
		ahead = append(ahead, coolkey.ListKeysEntries()...)
	}
	d, err := apdu.ReadAhead(ctx, l.Doer(), ahead)
	if err != nil {
		return tps.Contents{}, err
	}
	if err := coolkey.Select(ctx, d); err != nil {
		return tps.Contents{}, absent(err)
	}
	v, err := coolkey.ReadVersion(ctx, d)
	if err != nil {
		return tps.Contents{}, absent(err) // an application of that name that is no CoolKey
	}
	c := tps.Contents{Present: true, Version: v.String()}
	s, err := coolkey.ReadStatus(ctx, d)
	if err != nil {
		return tps.Contents{}, err
	}
	c.MemoryTotal, c.MemoryFree, c.HasPIN = int(s.HeapTotal), int(s.HeapFree), s.PINs > 0
	state, err := coolkey.ReadLifeCycle(ctx, d)
	if err != nil && absent(err) != nil {
		return tps.Contents{}, err
	}
	c.Personalized = err == nil && state == coolkey.Personalized // an applet that refuses to tell is not
	if p.Compat.ReadBack {
		r, err := d.Do(ctx, coolkey.ReadIssuerInfoCommand())
		if err != nil {
			return tps.Contents{}, fmt.Errorf("reading the issuer's address: %w", err)
		}
		c.IssuerURL, _ = coolkey.IssuerInfoOf(r) // a card that answers something else has none
	}
	if !p.Compat.ListKeys {
		return c, nil
	}
	keys, err := coolkey.ListKeys(ctx, d)
	if err != nil {
		return tps.Contents{}, err
	}
	for _, k := range keys {
		c.Slots = append(c.Slots, tps.Slot{Number: int(k.Number), Bits: k.Bits})
	}
	return c, nil
}

// Versions implements tps.Describer.
func (Family) Versions(ctx context.Context, d apdu.Doer) (v profile.AppletVersions, present bool, err error) {
	if err := coolkey.Select(ctx, d); err != nil {
		return v, false, absent(err)
	}
	s, err := coolkey.ReadStatus(ctx, d)
	if err != nil {
		return v, false, absent(err)
	}
	return profile.AppletVersions{ProtocolMajor: int(s.ProtocolMajor), ProtocolMinor: int(s.ProtocolMinor),
		AppletMajor: int(s.AppletMajor), AppletMinor: int(s.AppletMinor)}, true, nil
}

// absent turns a card's refusal into "no applet" and leaves every other error.
func absent(err error) error {
	var sw apdu.StatusWord
	if errors.As(err, &sw) {
		return nil
	}
	return err
}

// Sizes for the estimate of what a profile needs.
const (
	certificateBase = 900 // DER without the public key, with names, extensions and a P-256 signature
	caSignature     = 512 // an RSA-4096 authority
	maxLabel        = 64
)

// Check implements tps.Family. It sizes the combined object by an upper bound
// before any key is made.
func (Family) Check(_ tps.Contents, p profile.Profile) error {
	if len(p.Key) > coolkey.MaxCertificates {
		return fmt.Errorf("profile %s has %d keys, the applet takes %d", p.Name, len(p.Key), coolkey.MaxCertificates)
	}
	planned := make([]coolkey.PlannedCertificate, len(p.Key))
	for i, k := range p.Key {
		if _, err := flags(k); err != nil {
			return err
		}
		planned[i] = coolkey.PlannedCertificate{Label: maxLabel, DER: certificateBase + caSignature + k.Bits()/8}
	}
	need := coolkey.MaxSize(string(make([]byte, maxLabel)), planned) + coolkey.ObjectOverhead
	if need > p.Applet.Heap {
		return fmt.Errorf("profile %s may need %d bytes on the card and gives the applet %d ([applet] heap)", p.Name, need, p.Applet.Heap)
	}
	return nil
}

// CanPrepare implements tps.Preparer: the load file is there and fit for card and profile.
func (f Family) CanPrepare(c tps.Card, p profile.Profile) error {
	want := p.Applet.VersionFor(c.Protocol.String())
	file, err := f.file(want, c)
	if err != nil {
		return err
	}
	if err := checkFile(file, want, p); err != nil {
		return err
	}
	block := p.Applet.Block
	if block == 0 {
		block = apdu.MaxShortData // no channel has room for more
	}
	if _, err := prepareEntries(c, p, file, block); err != nil {
		return fmt.Errorf("load file of applet %s: %w", want, err)
	}
	return nil
}

// Older implements tps.Ordered.
func (Family) Older(version, than string) bool {
	v, err1 := coolkey.ParseVersion(version)
	w, err2 := coolkey.ParseVersion(than)
	return err1 == nil && err2 == nil && v.Compare(w) < 0
}

// progressPiece is how many LOAD commands run between two reports of progress, at
// least: as many as travel together.
const progressPiece = 8

// Prepare implements tps.Family: the old applet is deleted, the load file of the
// wanted version loaded and installed, and the issuer's address written.
func (f Family) Prepare(ctx context.Context, l tps.Link, p profile.Profile) error {
	want := p.Applet.VersionFor(l.Card().Protocol.String())
	file, err := f.file(want, l.Card())
	if err != nil {
		return err
	}
	s, err := l.Channel(ctx, l.Card().Manager)
	if err != nil {
		return err
	}
	block := p.Applet.Block
	if block == 0 || block > s.MaxData() {
		block = s.MaxData()
	}
	es, err := prepareEntries(l.Card(), p, file, block)
	if err != nil {
		return err
	}
	// Point of no return: DELETE destroys keys, PINs and objects of the old applet.
	size := max(progressPiece, s.Together())
	for done := 0; done < len(es); done += size {
		l.Progress(ctx, done, len(es))
		piece := es[done:min(done+size, len(es))]
		if _, err := apdu.RunAll(ctx, s, piece); err != nil {
			return fmt.Errorf("loading the applet %s: %w", want, err)
		}
	}
	return finishPrepare(ctx, l, p, want)
}

// prepareEntries is the whole list: two DELETEs whose answers do not matter,
// INSTALL [for load], LOAD, INSTALL [for install and make selectable].
func prepareEntries(c tps.Card, p profile.Profile, file *loadfile.File, block int) ([]apdu.Entry, error) {
	d := gp.DialectOf(uint8(c.Protocol))
	es := []apdu.Entry{
		{Command: gp.DeleteCommand(d, coolkey.InstanceAID(), gp.WithRelated), Mode: apdu.Anyway},
		{Command: gp.DeleteCommand(d, coolkey.PackageAID(), gp.WithRelated), Mode: apdu.Anyway},
	}
	load, err := gp.LoadEntries(d, gp.LoadRequest{LoadFile: file.Package, Domain: c.Manager}, file.Code(), block)
	if err != nil {
		return nil, err
	}
	install, err := gp.InstallRequest{
		LoadFile: file.Package, Module: coolkey.InstanceAID(), Instance: coolkey.InstanceAID(),
		NonVolatile: p.Applet.InstanceSize, Params: []byte{0, 2, byte(p.Applet.Heap >> 8), byte(p.Applet.Heap)},
	}.Command(d)
	if err != nil {
		return nil, err
	}
	return append(append(es, load...), apdu.Entry{Command: install}), nil
}

// finishPrepare checks that the applet is the one wanted, and writes the issuer's address.
func finishPrepare(ctx context.Context, l tps.Link, p profile.Profile, want string) error {
	s, err := l.Channel(ctx, coolkey.InstanceAID())
	if err != nil {
		return fmt.Errorf("opening the new applet: %w", err)
	}
	var es []apdu.Entry
	if p.Compat.AppletCheck {
		es = coolkey.VersionEntries()
	}
	issuer, err := issuerEntries(p)
	if err != nil {
		return err
	}
	rs, err := apdu.RunAll(ctx, s, slices.Concat(es, issuer))
	if err == nil {
		err = checkIssuer(p, rs)
	}
	if err != nil {
		return fmt.Errorf("checking the new applet and writing the issuer's address: %w", err)
	}
	if !p.Compat.AppletCheck {
		return nil
	}
	got, err := coolkey.VersionOf(rs)
	if err != nil {
		return err
	}
	if got.String() != want {
		return fmt.Errorf("the load file %s made an applet that calls itself %s", want, got)
	}
	return nil
}
