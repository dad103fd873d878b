package tps

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"inkan/tps/audit"
	"inkan/tps/auth"
)

// authenticate asks the person to log in, as often as the profile allows. Until
// it has succeeded nothing about the card is told, locked or written.
func (r *run) authenticate(ctx context.Context) error {
	if r.req.Ticket {
		return r.takeTicket(ctx)
	}
	id := r.profile.Auth.ID
	a, ok := r.e.Authenticators[id]
	if !ok {
		return refuse(StatusMisconfiguration, "profile %s names the authenticator %q, which is not configured", r.profile.Name, id)
	}
	form := a.Form(r.req.Locale)
	for try := 1; ; try++ {
		p, claim, err := r.login(ctx, a, form)
		if err == nil {
			r.person = p // not before: a claim is nobody (DEF-72)
			return r.audit(ctx, "TOKEN_AUTH", audit.Success, map[string]string{"authenticator": id})
		}
		failed := map[string]string{"authenticator": id, "info": err.Error()}
		if claim != "" {
			failed["claim"] = claim
		}
		if aerr := r.audit(ctx, "TOKEN_AUTH", audit.Failure, failed); aerr != nil {
			return errors.Join(err, aerr)
		}
		if !errors.Is(err, auth.ErrBadCredentials) || try >= r.profile.Auth.Retries {
			return within(StatusLogin, StepAuthenticate, err)
		}
		form.Invalid = true
	}
}

// login asks once and checks. Who guesses is slowed down by the authenticator for
// the name and here for the card, so that changing names does not help (DEF-10).
// claim is the name that was typed, for the audit record only.
func (r *run) login(ctx context.Context, a auth.Authenticator, form auth.Form) (p auth.Person, claim string, err error) {
	answers, err := r.cl.Login(ctx, form)
	if err != nil {
		return p, "", err
	}
	defer answers.Wipe()
	claim = claimed(answers)
	err = r.e.guesses.Do(ctx, r.card.CUID.String(), func() (err error) {
		p, err = a.Check(ctx, answers)
		return err
	})
	return p, claim, err
}

// longestClaim is how much of a typed name is audited, bytes.
const longestClaim = 64

// claimed is the name that was typed, without what would steer a terminal.
func claimed(answers auth.Answers) string {
	b := answers[auth.FieldUser].Bytes()
	return strings.Trim(strconv.QuoteToASCII(string(b[:min(len(b), longestClaim)])), `"`)
}
