package piv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tps"
	"inkan/tps/profile"
)

// CanPrepare implements tps.Preparer: the load file is there and fit for the card.
func (f Family) CanPrepare(c tps.Card, p profile.Profile) error {
	if c.Unmanaged {
		return nil // nothing is loaded; see MayWipe
	}
	want := p.Applet.VersionFor(c.Protocol.String())
	file, err := f.file(want, c)
	if err != nil {
		return err
	}
	if _, err := loadEntries(c, file, blockOf(p)); err != nil {
		return fmt.Errorf("load file of PivApplet %s: %w", want, err)
	}
	return nil
}

func blockOf(p profile.Profile) int {
	if p.Applet.Block == 0 {
		return apdu.MaxShortData // no channel has room for more
	}
	return p.Applet.Block
}

// Prepare implements tps.Family: the applet is deleted, loaded and installed through
// the card manager, or resets itself where there is none.
func (f Family) Prepare(ctx context.Context, l tps.Link, p profile.Profile) error {
	if l.Card().Unmanaged {
		return f.reset(ctx, l, p)
	}
	want := p.Applet.VersionFor(l.Card().Protocol.String())
	file, err := f.file(want, l.Card())
	if err != nil {
		return err
	}
	s, err := l.Channel(ctx, l.Card().Manager)
	if err != nil {
		return err
	}
	es, err := loadEntries(l.Card(), file, min(blockOf(p), s.MaxData()))
	if err != nil {
		return err
	}
	// Point of no return: DELETE destroys keys, PIN and objects of the old applet.
	const least = 8 // commands between two reports of progress
	size := max(least, s.Together())
	for done := 0; done < len(es); done += size {
		l.Progress(ctx, done, len(es))
		if _, err := apdu.RunAll(ctx, s, es[done:min(done+size, len(es))]); err != nil {
			return fmt.Errorf("loading PivApplet %s: %w", want, err)
		}
	}
	return checkLoaded(ctx, l, p, want)
}

// loadEntries is the whole list: two DELETEs whose answers do not matter, INSTALL [for
// load], LOAD, INSTALL [for install and make selectable]. PivApplet registers under its
// own name and looks at no parameters (piv-applet.md §10).
func loadEntries(c tps.Card, file *loadfile.File, block int) ([]apdu.Entry, error) {
	d := gp.DialectOf(uint8(c.Protocol))
	es := []apdu.Entry{
		{Command: gp.DeleteCommand(d, loadfile.PIVApplet, gp.WithRelated), Mode: apdu.Anyway},
		{Command: gp.DeleteCommand(d, loadfile.PIVPackage, gp.WithRelated), Mode: apdu.Anyway},
	}
	load, err := gp.LoadEntries(d, gp.LoadRequest{LoadFile: file.Package, Domain: c.Manager}, file.Code(), block)
	if err != nil {
		return nil, err
	}
	install, err := gp.InstallRequest{LoadFile: file.Package, Module: loadfile.PIVApplet, Instance: loadfile.PIVApplet}.Command(d)
	if err != nil {
		return nil, err
	}
	return append(append(es, load...), apdu.Entry{Command: install}), nil
}

// checkLoaded selects the new applet and compares what it calls itself.
func checkLoaded(ctx context.Context, l tps.Link, p profile.Profile, want string) error {
	app, err := piv.Select(ctx, l.Doer())
	if err != nil {
		return fmt.Errorf("selecting the new applet: %w", err)
	}
	m := appletLabel.FindStringSubmatch(app.Label)
	if p.Compat.AppletCheck && m != nil && m[1] != want {
		return fmt.Errorf("the load file %s made an applet that calls itself %s", want, m[1])
	}
	return nil
}

// reset empties a card without card manager: PIN and PUK are blocked, which the reset
// demands, and then the applet erases itself. A cut in between leaves a card with a
// blocked PIN; the next Prepare goes on from there.
func (f Family) reset(ctx context.Context, l tps.Link, p profile.Profile) error {
	c, err := f.Probe(ctx, l, p)
	if err != nil {
		return err
	}
	if len(c.Holds) == 0 && published(l.Card().Own) {
		if c.OwnAlgorithm != 0 {
			return nil // as it left the factory: it would tell of another PUK
		}
		as, err := factoryPUK(ctx, l.Doer())
		if err != nil || as {
			return err
		}
		if !p.PIV.Reset || !p.PIV.WipeForeign {
			return tps.Fail(tps.StatusDisabledToken, errors.New("the card has a PUK that is not known here, so that no PIN can be set: it is left as it is; "+
				"a profile with [piv] reset = true and wipe_foreign = true empties such cards"))
		}
	}
	const parts = 3
	for i, ref := range []blockable{
		{"PIN", func(wrong []byte) apdu.Command {
			return apdu.Command{INS: piv.InsVerify, P2: byte(piv.PIN), Data: wrong}
		}},
		{"PUK", func(wrong []byte) apdu.Command {
			return apdu.Command{INS: piv.InsChange, P2: byte(piv.PUK), Data: append(wrong, wrong...)}
		}},
	} {
		l.Progress(ctx, i, parts)
		if err := ref.block(ctx, l.Doer()); err != nil {
			return err
		}
	}
	l.Progress(ctx, parts-1, parts)
	// Point of no return: all keys, certificates and objects are gone.
	if err := piv.Reset(ctx, l.Doer()); err != nil {
		return fmt.Errorf("the card does not reset itself although PIN and PUK are blocked: %w", err)
	}
	_, err = piv.Select(ctx, l.Doer())
	return err
}

// factoryPUK asks a card that tells nothing of its keys with the factory's PUK whether
// it has that one.
func factoryPUK(ctx context.Context, d apdu.Doer) (bool, error) {
	factory, err := secret.NewPIN([]byte(piv.DefaultPUK))
	if err != nil {
		return false, err
	}
	err = piv.ChangePUK(ctx, d, factory, factory)
	return err == nil, refusal(err)
}

// blockable is a PIN or PUK, with the command that spends a try.
type blockable struct {
	name    string
	attempt func(wrong []byte) apdu.Command
}

// maxTries is more than a card can be set to.
const maxTries = 256

// block presents wrong values until none is taken any more.
func (b blockable) block(ctx context.Context, d apdu.Doer) error {
	for range maxTries {
		var wrong [piv.PINLen]byte
		rand.Read(wrong[:])
		for i := range wrong {
			wrong[i] = '0' + wrong[i]%10
		}
		c := b.attempt(wrong[:])
		r, err := d.Do(ctx, c)
		switch {
		case err != nil:
			return fmt.Errorf("blocking the %s: %w", b.name, err)
		case r.SW == apdu.SWAuthBlocked:
			return nil
		case r.SW == apdu.SWSuccess: // drawn by chance, and the tries are back
			continue
		}
		if n, ok := r.SW.Retries(); ok && n == 0 {
			return nil
		} else if !ok {
			return fmt.Errorf("blocking the %s: %w", b.name, r.Check(c))
		}
	}
	return errors.New("the card takes wrong values of the " + b.name + " without end")
}
