package tps

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/audit"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// gather collects the facts: the records, the unfinished operation, the card's
// proof of its keys and its contents. It reads only.
func (r *run) gather(ctx context.Context) error {
	rec, err := r.record(ctx)
	if err != nil {
		return err
	}
	open, err := r.openJournal(ctx)
	if err != nil {
		return err
	}
	if err := r.adopt(ctx, open); err != nil {
		return err
	}
	certs, err := r.e.Stores.Certificates.CertificatesOf(ctx, r.card.CUID)
	if err != nil {
		return within(StatusDatabase, StepRead, err)
	}
	if err := r.cardProof(ctx, rec, open); err != nil {
		return err
	}
	r.facts = Facts{
		Asked: r.req, Record: rec, Open: open, Certs: certs, Profile: r.profile, Person: r.person, Holder: r.holder(open),
		Family: r.family, Lab: r.e.Lab, Bound: r.e.Bound, Now: r.e.Now(),
	}
	if err := r.readFamilies(ctx); err != nil {
		return err
	}
	r.facts.OtherActive, err = r.otherActive(ctx)
	if err != nil {
		return err
	}
	r.facts.Ready.CA, r.facts.Ready.Archive = r.authoritiesReady(ctx, certs), r.archiveReady(ctx)
	if f, ok := r.family.(Preparer); ok {
		r.facts.Ready.Applet = f.CanPrepare(r.card, r.profile)
	}
	if r.facts.Contents, err = r.family.Probe(ctx, r.link, r.profile); err != nil {
		return within(StatusCannotPerform, StepRead, fmt.Errorf("reading the card's contents: %w", err))
	}
	if err := r.readCertificates(ctx); err != nil {
		return err
	}
	if err := r.proveApplet(ctx); err != nil {
		return err
	}
	r.facts.Card = r.card
	return r.settleChangeover(ctx)
}

// readCertificates reads the card's certificates where they are going to matter, unless
// they were read with its contents.
func (r *run) readCertificates(ctx context.Context) (err error) {
	open := r.facts.Open
	renews := r.req.Operation == OpRenew || open != nil && Operation(open.Operation) == OpRenew && r.finishesFirst(*open)
	if cr, ok := r.family.(CertificateReader); ok && renews && r.facts.Contents.Present {
		r.facts.Contents.Certificates, err = cr.Certificates(ctx, r.link, r.profile)
	}
	if err != nil {
		return within(StatusCannotPerform, StepRead, fmt.Errorf("reading the card's certificates: %w", err))
	}
	return nil
}

// record reads the token's record; nil only if there is none.
func (r *run) record(ctx context.Context) (*token.Token, error) {
	t, err := r.e.Stores.Tokens.Token(ctx, r.card.CUID)
	if errors.Is(err, token.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, within(StatusDatabase, StepRead, err)
	}
	return &t, nil
}

func (r *run) openJournal(ctx context.Context) (*token.Journal, error) {
	j, err := r.e.Stores.Journals.OpenJournal(ctx, r.card.CUID)
	if errors.Is(err, token.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, within(StatusDatabase, StepRead, err)
	}
	return &j, nil
}

// adopt takes the profile revision of an operation that is to be finished.
func (r *run) adopt(ctx context.Context, open *token.Journal) error {
	if open == nil || Operation(open.Operation) != r.req.Operation && !r.finishesFirst(*open) {
		return nil
	}
	rec, err := r.e.Profiles.ProfileRevision(ctx, open.Profile, open.ProfileRevision)
	if err != nil {
		return profileError(fmt.Errorf("reading profile %s revision %d of the unfinished operation: %w", open.Profile, open.ProfileRevision, err))
	}
	p, err := profile.Decode([]byte(rec.Document))
	if err != nil {
		return within(StatusMisconfiguration, StepRead, err)
	}
	p.Revision = rec.Revision
	return r.take(p)
}

// cardProof has the card prove its keys and checks who it then is: a CUID is a
// claim of the client, the KDD is what the cryptogram proves (design.md §2).
func (r *run) cardProof(ctx context.Context, rec *token.Token, open *token.Journal) error {
	if r.link != nil {
		r.link.end()
	}
	if r.card.Unmanaged { // its applet proves it, once it has been read
		r.link = &link{r: r}
		return nil
	}
	if err := r.prove(ctx, apdu.Behind(r.conn, gp.SelectCommand(r.card.Manager)), rec, open); err != nil {
		return err
	}
	r.link = &link{r: r, set: r.card.KeySet, version: r.card.Proved.KeyVersion}
	if err := r.sameCard(ctx, rec); err != nil {
		info := map[string]string{"info": err.Error(), "kdd": r.card.Proved.KDD.String()}
		return errors.Join(err, r.audit(ctx, "TOKEN_KEY_SANITY_CHECK", audit.Failure, info))
	}
	return nil
}

func (r *run) sameCard(ctx context.Context, rec *token.Token) error {
	kdd := r.card.Proved.KDD
	if rec != nil && rec.KDD != nil && *rec.KDD != kdd {
		return refuse(StatusSecureChannel, "the card claims the CUID of another card: its key diversification data is %s", kdd)
	}
	if kdd.IsZero() {
		return nil
	}
	other, err := r.e.Stores.Tokens.TokenByKDD(ctx, kdd)
	switch {
	case errors.Is(err, token.ErrNotFound):
		return nil
	case err != nil:
		return within(StatusDatabase, StepRead, err)
	case other.CUID != r.card.CUID:
		return refuse(StatusSecureChannel, "the card's key diversification data belongs to the card %s", other.CUID)
	}
	return nil
}

// otherActive finds another ACTIVE card of the card's person.
func (r *run) otherActive(ctx context.Context) (*apdu.CUID, error) {
	ts, err := r.e.Stores.Tokens.Tokens(ctx, token.Filter{UserID: r.facts.Holder.ID, State: token.Active, Limit: 2})
	if err != nil {
		return nil, within(StatusDatabase, StepRead, err)
	}
	for _, t := range ts {
		if t.CUID != r.card.CUID {
			return &t.CUID, nil
		}
	}
	return nil, nil
}

// authoritiesReady asks every authority that the profile's keys need, or that
// has to revoke what the card carries.
func (r *run) authoritiesReady(ctx context.Context, certs []token.Certificate) error {
	names := map[string]bool{}
	for _, k := range r.profile.Key {
		names[k.CA] = true
	}
	for _, c := range certs {
		if revocable(c) {
			names[c.CA] = true
		}
	}
	for name := range names {
		a, ok := r.e.Authorities[name]
		if !ok {
			return refuse(StatusMisconfiguration, "the authority %q is not configured", name)
		}
		if err := a.Ready(ctx); err != nil {
			return fmt.Errorf("authority %s: %w", name, err)
		}
	}
	return nil
}
