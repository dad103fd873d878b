package tps

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"inkan/tks"
	"inkan/tps/token"
)

// The applet of the card: which version the profile wants, whether it may be loaded
// over the one that is there, and what goes with that one. Format and enroll load
// applets; no other operation does. See tps-operations §3.2 and §11.

// How prepare-applet changes a card, as its journal entry and audit records say.
const (
	appletInstalled  = "install"   // there was none
	appletReloaded   = "reload"    // the same version, emptied
	appletUpdated    = "update"    // an older one, or one that cannot be compared
	appletDowngraded = "downgrade" // a newer one
)

// wantedVersion is the applet version the profile wants on this card.
func (f Facts) wantedVersion() string {
	if f.Card.Unmanaged {
		return f.Contents.Version // built in
	}
	return f.Profile.Applet.VersionFor(f.Card.Protocol.String())
}

// appletChange is what loading the wanted version does to this card.
func (f Facts) appletChange() string {
	switch {
	case !f.Contents.Present:
		return appletInstalled
	case f.Contents.Version == f.wantedVersion():
		return appletReloaded
	}
	if o, ok := f.Family.(Ordered); ok && o.Older(f.wantedVersion(), f.Contents.Version) {
		return appletDowngraded
	}
	return appletUpdated
}

// appletAfter is the version the card has when the operation is done. Of an applet
// whose word does not count ([compat] applet_check) it is the one recorded.
func (f Facts) appletAfter(prepared bool) string {
	switch {
	case prepared:
		return f.wantedVersion()
	case !f.Profile.Compat.AppletCheck && f.Record != nil && f.Record.AppletID != "":
		return f.Record.AppletID
	}
	return f.Contents.Version
}

// mayPrepare refuses what would fail only after the card's content is gone.
func mayPrepare(f Facts) error {
	// A card that is known here may have lost its applet to a cut.
	if !f.Contents.Present && f.Record == nil && !f.Profile.Applet.EmptyCard {
		return refuse(StatusDisabledToken, "the card has no applet, and profile %s takes no empty cards", f.Profile.Name)
	}
	if f.wantedVersion() == "" {
		return refuse(StatusMisconfiguration, "profile %s names no applet version", f.Profile.Name)
	}
	if f.appletChange() == appletDowngraded && !f.Profile.Applet.Downgrade {
		return refuse(StatusApplet, "the card has applet %s, newer than the %s of profile %s, which allows no downgrade ([applet] downgrade)",
			f.Contents.Version, f.wantedVersion(), f.Profile.Name)
	}
	if err := f.mayWipe(); err != nil {
		return within(StatusDisabledToken, "", err)
	}
	if f.Ready.Applet != nil {
		return within(StatusMisconfiguration, "", f.Ready.Applet)
	}
	return within(StatusMisconfiguration, "", f.Family.Check(f.Contents, f.Profile))
}

// mayWipe is why the family protects what the card holds; nil where it does not.
func (f Facts) mayWipe() error {
	g, ok := f.Family.(Guard)
	if !ok {
		return nil
	}
	// Keys of this site on a card without a state are of an operation that was rolled back.
	ours := !f.Card.Own.IsZero() && f.Card.Own.Set != tks.Factory
	known := ours || f.state() != token.Unformatted || historyOf(f.Open).begunAnywhere(StepPrepare)
	return g.MayWipe(f.Card, f.Contents, known, f.Profile)
}

// prepareStep leaves an empty applet of the wanted version.
func prepareStep(f Facts) Step {
	want := f.wantedVersion()
	intent := map[string]string{"from": f.Contents.Version, "to": want, "change": f.appletChange(), "lost": f.lost()}
	task := "PROGRESS_APPLET_BLOCK"
	if f.Card.Unmanaged {
		task = "PROGRESS_APPLET_RESET" // there is nothing to load
	}
	return Step{Name: StepPrepare, Kind: Irreversible, Weight: 40, Task: task, Event: "TOKEN_APPLET_UPGRADE",
		Fail: StatusApplet, Intent: intent,
		Do: func(ctx context.Context, r *run) error {
			r.applet = nil
			if err := r.family.Prepare(ctx, r.link, r.profile); err != nil {
				return err
			}
			return r.recordApplet(ctx, want)
		}}
}

// recordApplet corrects a record that names another version, or keys that the applet
// does not have any more, at once: what comes after may fail.
func (r *run) recordApplet(ctx context.Context, version string) error {
	had := *r.facts.Record
	keys := had.AppletKeys // of an applet of another family, if that has keys of its own
	if _, ok := r.family.(KeyChanger); ok {
		r.card.Own = token.AppletKeys{Set: tks.Factory}
		keys = r.card.Own
	}
	if (had.AppletID == "" || had.AppletID == version) && (had.AppletKeys.IsZero() || had.AppletKeys == keys) {
		return nil // the operation's end records it
	}
	return r.updateToken(ctx, func(t *token.Token) {
		if t.AppletID != "" {
			t.AppletID = version
		}
		t.AppletKeys = keys
	})
}

// lost says what the card's applet takes with it, in words; empty if that is nothing.
func (f Facts) lost() string { return strings.Join(f.losses(), ", ") }

func (f Facts) losses() (parts []string) {
	if !f.Contents.Present {
		return nil
	}
	if len(f.Contents.Holds) > 0 {
		return f.Contents.Holds
	}
	if n := len(f.Contents.Slots); n > 0 {
		parts = append(parts, fmt.Sprintf("%d key slots", n))
	}
	certs := 0
	for _, c := range f.Certs {
		if c.State == token.CertActive || c.State == token.CertOnHold {
			certs++
		}
	}
	if certs > 0 {
		parts = append(parts, fmt.Sprintf("%d certificates", certs))
	}
	if f.Contents.HasPIN {
		parts = append(parts, "the PIN")
	}
	return parts
}

// appletStory tells of the applet that an operation loaded over another, and of
// what went with that one: the operation may have been cut in between.
func appletStory(j token.Journal) string {
	first := slices.IndexFunc(j.Entries, func(e token.Entry) bool { return StepName(e.Step) == StepPrepare })
	if first < 0 {
		return ""
	}
	story, lost := "", ""
	switch e := j.Entries[first].Data; e["change"] {
	case appletUpdated, appletDowngraded:
		story = fmt.Sprintf("; applet %s to %s (%s)", e["from"], e["to"], e["change"])
	}
	for _, e := range j.Entries[first:] {
		if StepName(e.Step) == StepPrepare && e.Data["lost"] != "" {
			lost = "; gone from the card: " + e.Data["lost"]
		}
	}
	return story + lost
}
