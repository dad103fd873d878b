package tps

import (
	"cmp"
	"context"
	"crypto"
	"fmt"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// Renew gives the keys on an active card new certificates: the keys stay, and so does
// the PIN, which nobody is asked for. See tps-operations §6.
//
//	change-keys            where the profile asks for it
//	change-applet-keys
//	issue-certificate TYPE for every key whose certificate may be renewed now
//	keep-certificate TYPE  for the others that the card has
//	write-contents         certificates and descriptions, read back
//	write-issuer           if the applet holds another address
//	record-token           new certificates active, old ones as [renewal] says
//
// Nothing is issued unless the card shows the certificates that are recorded, and keys
// for them. After a cut the same request goes on with the certificates it had issued.
// An operation that leaves the card's content finishes a renewal that was cut while it
// wrote; another one rolls it back: the keys were never touched.

func planRenew(f Facts) (Plan, error) {
	if err := mayRenew(f); err != nil {
		return nil, err
	}
	all, err := f.renewals()
	if err != nil {
		return nil, err
	}
	plan := known(f)
	if f.wantsKeys(OpRenew) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpRenew, false) {
		if err := f.lockedOut(); err != nil {
			return nil, err
		}
		plan = append(plan, changeAppletKeysStep(f, false))
	}
	facts := map[string]string{"applet": f.appletAfter(false), "old_certs": "keep"}
	stays := map[string]string{}
	for _, x := range all {
		if x.due {
			plan = append(plan, renewStep(f, x.key, x.old))
			facts["old_certs "+x.key.Type] = f.Profile.Renewal.OldCerts
			continue
		}
		plan = append(plan, keepStep(x.key, x.old))
		facts["old_certs "+x.key.Type], stays[staysOn+x.key.Type] = "keep", x.old.ID
	}
	write := writeStep(f)
	write.Fail, write.Intent = StatusRenewal, stays
	plan = append(plan, write)
	if f.wantsIssuer() {
		plan = append(plan, writeIssuerStep(f))
	}
	return append(plan, recordStep(f, facts)), nil
}

// staysOn marks a certificate that a renewal leaves on the card, in the intent of its
// write-contents.
const staysOn = "stays "

func mayRenew(f Facts) error {
	switch {
	case f.state() != token.Active:
		return refuse(StatusDisabledToken, "the card's state is %s: only an active card's certificates can be renewed; enroll it", f.state())
	case f.Record.UserID != f.Holder.ID:
		return refuse(StatusNotOwner, "certificates are renewed for the card's owner alone")
	case f.Record.Profile != "" && f.Record.Profile != f.Profile.Name:
		return refuse(StatusDisabledToken, "the card was enrolled with profile %s: its certificates are renewed by that one", f.Record.Profile)
	case !f.Profile.Renewal.Enabled:
		return refuse(StatusDisabledToken, "profile %s renews nothing ([renewal] enabled)", f.Profile.Name)
	}
	p, err := f.policy()
	if err != nil {
		return within(StatusMisconfiguration, "", err)
	}
	if p.ForceFormat {
		return refuse(StatusDisabledToken, "the card's policy has it formatted before anything else is issued for it; enroll it")
	}
	if !f.Contents.Present {
		return refuse(StatusRenewal, "the card has lost its applet; it has to be enrolled again")
	}
	if err := mayUseOwn(f); err != nil {
		return err
	}
	if err := mayActivate(f, OpRenew); err != nil {
		return err
	}
	if _, _, err := f.labels(); err != nil {
		return err
	}
	if f.Ready.CA != nil {
		return within(StatusRenewal, "", fmt.Errorf("certificates cannot be issued now: %w", f.Ready.CA))
	}
	return within(StatusMisconfiguration, "", cmp.Or(f.Family.Check(f.Contents, f.Profile), f.Contents.Unproved))
}

// renewStep has another certificate issued for the key of one.
func renewStep(f Facts, k profile.Key, old token.Certificate) Step {
	s := issueStep(f, k)
	issue := s.Do
	s.Event, s.Fail, s.Intent["replaces"] = "TOKEN_CERT_RENEWAL", StatusRenewal, old.ID
	s.Do = func(ctx context.Context, r *run) error {
		pub, err := publicOf(old)
		if err != nil {
			return err
		}
		evidence, err := r.attested(ctx, k, pub)
		if err != nil {
			return err
		}
		if evidence = cmp.Or(evidence, old.Evidence); evidence != "" {
			r.note("evidence", evidence)
		}
		r.keep(k.Type, KeyResult{Public: pub, Evidence: evidence})
		return issue(ctx, r)
	}
	return s
}

// attested is the proof that the card made a key, as the profile demands it today.
func (r *run) attested(ctx context.Context, k profile.Key, pub crypto.PublicKey) (evidence string, err error) {
	applet, err := r.personalize(ctx)
	if err != nil {
		return "", err
	}
	a, ok := applet.(Attester)
	if !ok {
		return "", nil
	}
	return a.Attest(ctx, k, pub)
}

// renewInstead turns an enrollment into the renewal that the card's policy wants in its
// place (§14): RENEW=YES, on the active card of the person, unless FORCE_FORMAT=YES or
// an enrollment is to be finished. From here on it is one, and fails as one.
func (r *run) renewInstead(ctx context.Context) error {
	f := r.facts
	if r.req.Operation != OpEnroll || f.state() != token.Active || f.Open != nil && Operation(f.Open.Operation) != OpRenew {
		return nil
	}
	if f.Record.UserID != f.Person.ID && f.Open == nil {
		return nil // refused as what it is
	}
	p, err := f.policy()
	if err != nil || !p.Renew || p.ForceFormat {
		return nil // what is wrong with the policy says the planner
	}
	r.req.Operation = OpRenew
	return r.steps(ctx, ahead{"resolve-profile", r.resolve}, ahead{StepRead, r.gather})
}

// finishesFirst reports an unfinished operation that is finished before the one asked
// for: by request, or because that leaves a content which a renewal began to write.
func (r *run) finishesFirst(open token.Journal) bool {
	leaves := r.req.Operation == OpPINReset || r.req.Operation == OpKeyChangeover
	return r.req.Resume || leaves && Operation(open.Operation) == OpRenew && historyOf(&open).begun(StepWrite)
}
