package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
)

// Registry is what is on a card.
type Registry struct {
	Domain       gp.RegistryEntry // the issuer security domain
	Applications []gp.RegistryEntry
	LoadFiles    []gp.RegistryEntry
	Keys         []gp.KeyInfoEntry // of the card manager; nil where it does not tell
}

// List reads the card's registry.
func (m *Manager) List(ctx context.Context) (Registry, error) {
	var r Registry
	domains, err := gp.GetStatus(ctx, m.inner, gp.ScopeIssuerDomain, apdu.AID{})
	if err != nil {
		return r, err
	}
	if len(domains) > 0 {
		r.Domain = domains[0]
	}
	if r.Applications, err = gp.GetStatus(ctx, m.inner, gp.ScopeApplications, apdu.AID{}); err != nil {
		return r, err
	}
	if r.LoadFiles, err = gp.GetStatus(ctx, m.inner, gp.ScopeModules, apdu.AID{}); errors.Is(err, apdu.SWIncorrectP1P2) {
		r.LoadFiles, err = gp.GetStatus(ctx, m.inner, gp.ScopeLoadFiles, apdu.AID{})
	}
	if err != nil {
		return r, err
	}
	if r.Keys, err = gp.ReadKeyInfo(ctx, m.inner); lost(err) {
		return r, err
	}
	return r, nil
}

// Find returns the entry of an application or load file, and what is deleted with
// it: the applications of a load file.
func (r Registry) Find(aid apdu.AID) (e gp.RegistryEntry, related []gp.RegistryEntry, ok bool) {
	if i := index(r.Applications, aid); i >= 0 {
		return r.Applications[i], nil, true
	}
	i := index(r.LoadFiles, aid)
	if i < 0 {
		return e, nil, false
	}
	e = r.LoadFiles[i]
	for _, a := range r.Applications {
		if a.LoadFile == aid || a.LoadFile.Len() == 0 && slices.Contains(e.Modules, a.AID) {
			related = append(related, a)
		}
	}
	return e, related, true
}

func index(es []gp.RegistryEntry, aid apdu.AID) int {
	return slices.IndexFunc(es, func(e gp.RegistryEntry) bool { return e.AID == aid })
}

// Installation is an application to be made.
type Installation struct {
	File       *loadfile.File
	Module     apdu.AID // empty: the only one of the file
	Instance   apdu.AID // empty: as the module
	Privileges gp.Privileges
	Params     []byte // what the applet gets
}

// Complete fills in what is left out, and refuses what the file does not hold or
// the card has already.
func (i Installation) Complete(r Registry) (Installation, error) {
	if i.Module.Len() == 0 {
		if len(i.File.Applets) != 1 {
			return i, fmt.Errorf("the load file holds %d applets: name one of %v", len(i.File.Applets), i.File.Applets)
		}
		i.Module = i.File.Applets[0]
	}
	if !slices.Contains(i.File.Applets, i.Module) {
		return i, fmt.Errorf("the load file holds no applet %v, it holds %v", i.Module, i.File.Applets)
	}
	if i.Instance.Len() == 0 {
		i.Instance = i.Module
	}
	for _, aid := range []apdu.AID{i.File.Package, i.Instance} {
		if _, _, there := r.Find(aid); there {
			return i, fmt.Errorf("%v is on the card already: delete it first", aid)
		}
	}
	return i, nil
}

// Install loads the file and makes the application; i is complete. If the card
// refuses the application, the load file is taken off again.
func (m *Manager) Install(ctx context.Context, i Installation) error {
	load, err := gp.LoadEntries(m.dialect(), gp.LoadRequest{LoadFile: i.File.Package, Domain: m.AID}, i.File.Code(), m.inner.MaxData())
	if err != nil {
		return err
	}
	install, err := gp.InstallRequest{LoadFile: i.File.Package, Module: i.Module, Instance: i.Instance, Privileges: i.Privileges, Params: i.Params}.Command(m.dialect())
	if err != nil {
		return err
	}
	if _, err := apdu.RunAll(ctx, m.inner, load); err != nil {
		return fmt.Errorf("loading %v, of which nothing stays on the card: %w", i.File.Package, err)
	}
	if _, err := apdu.Run(ctx, m.inner, install); err != nil {
		err = fmt.Errorf("installing %v: %w", i.Instance, err)
		if derr := m.remove(ctx, i.File.Package, gp.WithRelated); derr != nil {
			return errors.Join(err, fmt.Errorf("the load file stays on the card: %w", derr))
		}
		return fmt.Errorf("%w; the load file was taken off again", err)
	}
	return nil
}

// Delete deletes an application or load file, and with it what is related to it: a
// card of Open Platform 2.0.1 has no command for both, so one after the other.
func (m *Manager) Delete(ctx context.Context, aid apdu.AID, related ...apdu.AID) error {
	if len(related) == 0 {
		return m.remove(ctx, aid, gp.ObjectOnly)
	}
	if m.dialect() != gp.OP201 {
		return m.remove(ctx, aid, gp.WithRelated)
	}
	for i, r := range append(slices.Clone(related), aid) {
		if err := m.remove(ctx, r, gp.ObjectOnly); err != nil {
			return fmt.Errorf("%w; %d of %d are gone", err, i, len(related)+1)
		}
	}
	return nil
}

func (m *Manager) remove(ctx context.Context, aid apdu.AID, x gp.Extent) error {
	_, err := apdu.Run(ctx, m.inner, gp.DeleteCommand(m.dialect(), aid, x))
	if errors.Is(err, apdu.SWConditionsOfUse) && x == gp.ObjectOnly {
		return fmt.Errorf("deleting %v: something on the card still needs it, and goes first: %w", aid, err)
	}
	if err != nil {
		return fmt.Errorf("deleting %v: %w", aid, err)
	}
	return nil
}
