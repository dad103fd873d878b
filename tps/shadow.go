package tps

import (
	"context"
	"errors"
	"slices"

	"inkan/apdu"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// shadow is the records of one card as they would become: what is written stays here, and
// is what is read from then on. The stores behind it are only read.
type shadow struct {
	tokens       shadowTokens
	certificates shadowCertificates
	journals     shadowJournals
}

func newShadow(s Stores) *shadow {
	return &shadow{
		tokens:       shadowTokens{tokenStore: s.Tokens},
		certificates: shadowCertificates{certificateStore: s.Certificates},
		journals:     shadowJournals{journalStore: s.Journals},
	}
}

// over is the engine with the records of a dry run: it locks cards as e does, counts wrong
// logins with it, and changes nothing else.
func (e *Engine) over(s *shadow) *Engine {
	c := e.Config
	c.Stores = Stores{
		Tokens: &s.tokens, Certificates: &s.certificates, Journals: &s.journals,
		Activities: shadowActivities{c.Stores.Activities}, Locks: c.Stores.Locks,
	}
	c.Authorities = map[string]ca.Authority{}
	for name, a := range e.Authorities {
		c.Authorities[name] = shadowAuthority{a}
	}
	c.Audit = shadowAudit{e.Audit}
	return &Engine{Config: c, families: e.families, guesses: e.guesses, owed: e.owed}
}

// The stores under names of their own: an interface embedded as Tokens would hide its
// method Tokens.
type (
	tokenStore       = token.Tokens
	certificateStore = token.Certificates
	journalStore     = token.Journals
	activityStore    = token.Activities
)

// errShadow is for what a dry run never comes to.
var errShadow = errors.New("this is a dry run")

// shadowTokens is the record of one card.
type shadowTokens struct {
	tokenStore
	before, after *token.Token // nil where there is none
	written       bool
}

// Token implements token.Tokens.
func (s *shadowTokens) Token(ctx context.Context, cuid apdu.CUID) (token.Token, error) {
	if s.written && s.after.CUID == cuid {
		return *s.after, nil
	}
	t, err := s.tokenStore.Token(ctx, cuid)
	if err == nil {
		was, is := t, t
		s.before, s.after = &was, &is
	}
	return t, err
}

// CreateToken implements token.Tokens.
func (s *shadowTokens) CreateToken(_ context.Context, t token.Token) (token.Token, error) {
	s.after, s.written = &t, true
	return t, nil
}

// ReplaceToken implements token.Tokens.
func (s *shadowTokens) ReplaceToken(_ context.Context, t token.Token) (token.Token, error) {
	s.after, s.written = &t, true
	return t, nil
}

// shadowCertificates are the certificates of one card.
type shadowCertificates struct {
	certificateStore
	before, after []token.Certificate // that were replaced, in pairs
}

// CertificatesOf implements token.Certificates.
func (s *shadowCertificates) CertificatesOf(ctx context.Context, cuid apdu.CUID) ([]token.Certificate, error) {
	all, err := s.certificateStore.CertificatesOf(ctx, cuid)
	for i, c := range all {
		if at := s.find(c.ID); at >= 0 {
			all[i] = s.after[at]
		}
	}
	return all, err
}

// ReplaceCertificate implements token.Certificates.
func (s *shadowCertificates) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	if at := s.find(c.ID); at >= 0 {
		s.after[at] = c
		return c, nil
	}
	was, err := s.certificateStore.Certificate(ctx, c.ID)
	if err == nil {
		s.before, s.after = append(s.before, was), append(s.after, c)
	}
	return c, err
}

// CreateCertificate implements token.Certificates: nothing is issued.
func (s *shadowCertificates) CreateCertificate(_ context.Context, c token.Certificate) (token.Certificate, error) {
	return c, errShadow
}

func (s *shadowCertificates) find(id string) int {
	return slices.IndexFunc(s.after, func(c token.Certificate) bool { return c.ID == id })
}

// changes are the certificates whose state is another one.
func (s *shadowCertificates) changes() (out []PreviewCertificate) {
	for i, c := range s.after {
		if c.State != s.before[i].State && len(out) < maxPreviewList {
			out = append(out, PreviewCertificate{Serial: short(c.Serial), Key: short(c.KeyType), Subject: short(c.Subject), Until: c.NotAfter,
				Before: s.before[i].State, After: c.State})
		}
	}
	return out
}

// shadowJournals are the journals of one card.
type shadowJournals struct {
	journalStore
	last *token.Journal // that was written; nil: none was
}

// BeginJournal implements token.Journals.
func (s *shadowJournals) BeginJournal(_ context.Context, j token.Journal) (token.Journal, error) {
	s.last = &j
	return j, nil
}

// ReplaceJournal implements token.Journals.
func (s *shadowJournals) ReplaceJournal(_ context.Context, j token.Journal) (token.Journal, error) {
	s.last = &j
	return j, nil
}

// OpenJournal implements token.Journals.
func (s *shadowJournals) OpenJournal(ctx context.Context, cuid apdu.CUID) (token.Journal, error) {
	switch {
	case s.last == nil:
		return s.journalStore.OpenJournal(ctx, cuid)
	case !s.last.Ended.IsZero():
		return token.Journal{}, token.ErrNotFound
	}
	return *s.last, nil
}

// shadowActivities keeps none.
type shadowActivities struct{ activityStore }

// AddActivity implements token.Activities.
func (shadowActivities) AddActivity(context.Context, token.Activity) error { return nil }

// shadowAuthority says whether it is ready, and is not told anything.
type shadowAuthority struct{ ca.Authority }

// Issue implements ca.Authority.
func (shadowAuthority) Issue(context.Context, ca.Request) (ca.Certificate, error) {
	return ca.Certificate{}, errShadow
}

// Revoke implements ca.Authority.
func (shadowAuthority) Revoke(context.Context, ca.Issuer, ca.Serial, ca.Reason) error { return nil }

// Find is that of an authority which has issued nothing: what a cut operation asked for and
// nobody has is revoked as it is found, and matters to no plan.
func (shadowAuthority) Find(context.Context, string) (ca.Certificate, error) {
	return ca.Certificate{}, ca.ErrUnknown
}

// shadowAudit records what happens in a dry run: not what would.
type shadowAudit struct{ audit.Log }

// Record implements audit.Log.
func (s shadowAudit) Record(ctx context.Context, e audit.Event) error {
	switch e.Name {
	case "TOKEN_AUTH", "TOKEN_KEY_SANITY_CHECK", eventDryRun:
		return s.Log.Record(ctx, e)
	}
	return nil
}
