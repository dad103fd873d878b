package tps

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// registerStep makes the record of a card that is new here.
func registerStep() Step {
	return Step{Name: StepRegister, Kind: Settling, Fail: StatusUpdateFailed, Do: func(ctx context.Context, r *run) error {
		next := token.Token{
			CUID: r.card.CUID, Profile: r.profile.Name, State: token.Unformatted,
			AppletID: r.facts.Contents.Version, Created: r.e.Now(), Modified: r.e.Now(),
		}
		r.card.proveIn(&next)
		t, err := r.e.Stores.Tokens.CreateToken(ctx, next)
		if err != nil {
			return fmt.Errorf("adding the token record: %w", err)
		}
		r.facts.Record = &t
		return r.e.Stores.Activities.AddActivity(ctx, token.Activity{
			ID: token.NewID(), Time: r.e.Now(), CUID: r.card.CUID, UserID: r.person.ID, IP: r.req.Client, Operation: "add",
			Success: true, Message: fmt.Sprintf("added during %s", r.req.Operation), Profile: r.profile.Name, Reference: r.id,
		})
	}}
}

// adoptKeysStep writes what a known card proved and its record lacks.
func adoptKeysStep() Step {
	return Step{Name: "adopt-keys", Kind: Settling, Fail: StatusUpdateFailed, Do: func(ctx context.Context, r *run) error {
		return r.updateToken(ctx, func(t *token.Token) { r.card.proveIn(t) })
	}}
}

// proveIn writes what the card has proved into its record.
func (c Card) proveIn(t *token.Token) {
	if c.Proved != nil {
		kdd := c.Proved.KDD
		t.KDD, t.KeySet, t.KeyInfo = &kdd, c.KeySet, keyInfo(*c.Proved)
	}
	t.AppletKeys = c.Own
}

// known begins a plan: the card's record exists and holds its keys.
func known(f Facts) Plan {
	switch {
	case f.Record == nil:
		return Plan{registerStep()}
	case f.Card.Unmanaged:
	case f.Record.KDD == nil || len(f.Record.KeyInfo) == 0:
		return Plan{adoptKeysStep()}
	}
	return nil
}

// askPINStep asks for the new PIN, before the card is touched. The profile's
// rules are checked here and the PIN is asked for again.
func askPINStep(f Facts) Step {
	p := f.Profile
	return Step{Name: StepAskPIN, Kind: Harmless, Weight: 1, Task: string(StepAskPIN), Fail: StatusSetPIN,
		Do: func(ctx context.Context, r *run) error {
			var last error
			who := f.Holder
			for range p.Auth.Retries {
				pin, err := r.cl.NewPIN(ctx, p.PIN.Min, p.PIN.Max)
				if err != nil {
					return fmt.Errorf("asking for the PIN: %w", err)
				}
				if last = p.PIN.Check(pin, who.ID, who.Name); last == nil {
					r.pin = pin
					return nil
				}
				pin.Wipe()
			}
			return fmt.Errorf("the PIN does not meet the profile's rules: %w", last)
		}}
}

// personalize opens the applet, once.
func (r *run) personalize(ctx context.Context) (Applet, error) {
	if r.applet == nil {
		a, err := r.family.Open(ctx, r.link, r.profile)
		if err != nil {
			return nil, fmt.Errorf("opening the applet: %w", err)
		}
		r.applet = a
	}
	return r.applet, nil
}

func setPINStep(f Facts) Step {
	tries := f.Profile.PIN.Tries
	return Step{Name: StepSetPIN, Kind: Irreversible, Weight: 3, Task: string(StepSetPIN), Event: "TOKEN_PIN_SET", Fail: StatusSetPIN,
		Do: func(ctx context.Context, r *run) error {
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			return a.SetPIN(ctx, r.pin, tries)
		}}
}

// generateStep makes a key pair on the card. Its public key is journaled, so
// that a resumed operation need not make another.
func generateStep(k profile.Key) Step {
	return Step{Name: StepGenerateKey.of(k.Type), Kind: Irreversible, Weight: 15, Task: "PROGRESS_KEY_GENERATION",
		Event: "TOKEN_KEY_GENERATION", Fail: StatusEnroll, Intent: map[string]string{"alg": k.Alg, "slot": fmt.Sprint(k.PrivateSlot())},
		Do: func(ctx context.Context, r *run) error {
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			res, err := a.GenerateKey(ctx, k)
			if err != nil {
				return err
			}
			return r.made(k.Type, res)
		}}
}

// made notes a key pair that the card has now, also in the journal's entry.
func (r *run) made(keyType string, res KeyResult) error {
	spki, err := x509.MarshalPKIXPublicKey(res.Public)
	if err != nil {
		return fmt.Errorf("encoding the public key: %w", err)
	}
	r.note("spki", base64.StdEncoding.EncodeToString(spki))
	if len(res.CSR) > 0 {
		r.note("csr", base64.StdEncoding.EncodeToString(res.CSR))
	}
	if res.Evidence != "" {
		r.note("evidence", res.Evidence)
	}
	r.keep(keyType, res)
	return nil
}

func (r *run) keep(keyType string, res KeyResult) {
	if r.keys == nil {
		r.keys = map[string]KeyResult{}
	}
	r.keys[keyType] = res
}

// hold notes the certificate that goes onto the card for a key.
func (r *run) hold(keyType string, c token.Certificate) {
	if r.certs == nil {
		r.certs = map[string]token.Certificate{}
	}
	r.certs[keyType] = c
}

// keyOf is the key pair of a type: made in this run, or before the cut.
func (r *run) keyOf(keyType string) (KeyResult, error) {
	if res, ok := r.keys[keyType]; ok {
		return res, nil
	}
	e, ok := historyOf(&r.journal).made(keyType)
	if !ok || !e.Confirmed {
		return KeyResult{}, fmt.Errorf("no %s key was made", keyType)
	}
	spki, err := base64.StdEncoding.DecodeString(e.Data["spki"])
	if err != nil {
		return KeyResult{}, fmt.Errorf("reading the journaled public key: %w", err)
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return KeyResult{}, fmt.Errorf("reading the journaled public key: %w", err)
	}
	res := KeyResult{Public: pub, Evidence: e.Data["evidence"]}
	if text := e.Data["csr"]; text != "" {
		if res.CSR, err = base64.StdEncoding.DecodeString(text); err != nil {
			return KeyResult{}, fmt.Errorf("reading the journaled request: %w", err)
		}
	}
	return res, nil
}

// issueStep has the certificate of a key issued and its record written, state
// uninitialized. The request's identity is journaled first: asking again after a
// cut returns the same certificate.
func issueStep(f Facts, k profile.Key) Step {
	return Step{Name: StepIssue.of(k.Type), Kind: Irreversible, Weight: 5, Task: "PROGRESS_ENROLL_CERT", Event: "TOKEN_CERT_ENROLLMENT",
		Fail: StatusEnroll, Intent: map[string]string{"ca": k.CA, "ca_profile": k.CAProfile, "key": k.Type, "number": fmt.Sprint(k.Cert)},
		Late: true, // with the request's identity
		Do: func(ctx context.Context, r *run) error {
			res, err := r.keyOf(k.Type)
			if err != nil {
				return err
			}
			id := r.pairID(k.Type)
			c, err := r.request(ctx, k, res, id)
			for again := 1; err == nil && !writable(c); again++ {
				c, err = r.request(ctx, k, res, fmt.Sprintf("%s/%d", id, again))
			}
			if err != nil {
				return err
			}
			r.note("serial", c.Serial)
			r.hold(k.Type, c)
			return nil
		}}
}

// writable reports whether a certificate may still go onto the card: one that
// stayed unconfirmed for long has been revoked, or is about to be.
func writable(c token.Certificate) bool {
	return c.Pending == "" && (c.State == token.CertUninitialized || c.State == token.CertActive)
}

// request asks for the certificate of a key under a request identity, which is
// journaled before.
func (r *run) request(ctx context.Context, k profile.Key, res KeyResult, id string) (token.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(res.Public)
	if err != nil {
		return token.Certificate{}, fmt.Errorf("encoding the public key: %w", err)
	}
	r.note("request", id)
	r.note("spki", base64.StdEncoding.EncodeToString(spki))
	if err := r.keepJournal(ctx); err != nil {
		return token.Certificate{}, err
	}
	return r.e.issue(ctx, issuance{
		ca: k.CA, journal: r.journal, key: k.Type, number: k.Cert, evidence: res.Evidence, first: r.journal.ID == r.id, request: ca.Request{
			ID: id, Profile: k.CAProfile, PublicKey: res.Public, CSR: res.CSR, CUID: r.card.CUID, Subject: subject(r.facts.Holder),
		},
	})
}

// subject is what a certificate says of a person.
func subject(p auth.Person) ca.Subject {
	return ca.Subject{UserID: string(p.ID), Name: p.Name, Mail: p.Mail, UPN: p.UPN}
}

// issuance is one certificate to be issued for a card.
type issuance struct {
	ca, key  string
	number   int
	evidence string // see token.Certificate
	first    bool   // nobody has asked for it before: there is no record of it
	journal  token.Journal
	request  ca.Request
}

// issue asks the authority and records the answer. It is safe to repeat.
func (e *Engine) issue(ctx context.Context, i issuance) (token.Certificate, error) {
	authority, ok := e.Authorities[i.ca]
	if !ok {
		return token.Certificate{}, refuse(StatusMisconfiguration, "authority %q is not configured", i.ca)
	}
	c, err := authority.Issue(ctx, i.request)
	if err != nil {
		return token.Certificate{}, fmt.Errorf("issuing the %s certificate: %w", i.key, err)
	}
	if !i.first {
		have, err := e.Stores.Certificates.CertificatesOf(ctx, i.journal.CUID)
		if err != nil {
			return token.Certificate{}, err
		}
		for _, h := range have {
			if h.Operation == i.journal.ID && h.Serial == string(c.Serial) && bytes.Equal(h.Issuer, c.Issuer.Name) { // DEF-44
				return h, nil
			}
		}
	}
	rec, err := e.Stores.Certificates.CreateCertificate(ctx, token.Certificate{
		ID: token.NewID(), CUID: i.journal.CUID, UserID: i.journal.UserID, KeyType: i.key, Number: i.number, Profile: i.journal.Profile,
		State: token.CertUninitialized, Serial: string(c.Serial), Subject: c.Subject, Issuer: c.Issuer.Name, AKI: c.Issuer.KeyID,
		DER: c.DER, CA: i.ca, Origin: i.journal.CUID, Operation: i.journal.ID, Evidence: i.evidence, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Created: e.Now(), Modified: e.Now(),
	})
	if err != nil {
		return rec, fmt.Errorf("recording the %s certificate: %w", i.key, err)
	}
	return rec, nil
}

// writeStep writes the certificates and what describes them to the card, reads
// it back and compares.
func writeStep(f Facts) Step {
	return Step{Name: StepWrite, Kind: Irreversible, Weight: 10, Task: "PROGRESS_WRITE_OBJECTS", Event: "TOKEN_CONTENTS_WRITE", Fail: StatusEnroll,
		Do: func(ctx context.Context, r *run) error {
			c, err := r.contents(ctx)
			if err != nil {
				return err
			}
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			return a.Write(ctx, c)
		}}
}

// contents is what the card is to carry.
func (r *run) contents(ctx context.Context) (Contents, error) {
	label, keyLabels, err := r.facts.labels()
	if err != nil {
		return Contents{}, err
	}
	c := Contents{Present: true, Label: label}
	for i, k := range r.profile.Key {
		if _, ok := r.certs[k.Type]; !ok && r.req.Operation == OpRenew {
			continue // the card does not have this key
		}
		cert, err := r.certOf(ctx, k.Type)
		if err != nil {
			return Contents{}, err
		}
		res, err := r.keyOf(k.Type)
		if err != nil {
			return Contents{}, err
		}
		c.Certificates = append(c.Certificates, CardCertificate{Key: k, Label: keyLabels[i], DER: cert.DER, Public: res.Public})
	}
	c.Former, err = r.facts.former(c.Certificates)
	return c, err
}

// certOf is the certificate of a key type: this operation had it issued, or keeps it.
func (r *run) certOf(ctx context.Context, keyType string) (token.Certificate, error) {
	if c, ok := r.certs[keyType]; ok {
		return c, nil
	}
	return token.Certificate{}, errors.New("no " + keyType + " certificate was issued")
}

// finishStep marks the card personalised. The certificates it now carries are
// journaled: from here on only records are left to write.
func finishStep() Step {
	return Step{Name: StepFinish, Kind: Irreversible, Weight: 3, Task: "PROGRESS_SET_LIFECYCLE", Event: "TOKEN_LIFECYCLE", Fail: StatusLifeCycle,
		Do: func(ctx context.Context, r *run) error {
			a, err := r.personalize(ctx)
			if err != nil {
				return err
			}
			return a.Finish(ctx)
		}}
}
