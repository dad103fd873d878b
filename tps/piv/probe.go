package piv

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/profile"
)

// slots are those that profiles use.
var slots = []piv.Slot{piv.Authentication, piv.Signature, piv.KeyManagement, piv.CardAuthentication}

// described is what a card is asked when it is read, in this order.
func described() []apdu.Entry {
	cs := []apdu.Command{piv.SelectCommand(), versionCommand(), metadataCommand(piv.PIN), metadataCommand(piv.PUK), metadataCommand(piv.Management)}
	for _, s := range slots {
		cs = append(cs, metadataCommand(s), piv.GetDataCommand(s.Certificate()))
	}
	cs = append(cs, piv.GetDataCommand(piv.KeyHistoryObject), piv.GetDataCommand(piv.AdminData))
	es := apdu.Entries(apdu.Plain|apdu.Anyway, cs...)
	es[0].Mode = apdu.Plain
	return es
}

func versionCommand() apdu.Command { return apdu.Command{INS: piv.InsVersion, Ne: apdu.MaxShortNe} }

func metadataCommand(ref piv.Slot) apdu.Command {
	return apdu.Command{INS: piv.InsMetadata, P2: byte(ref), Ne: apdu.MaxShortNe}
}

// Probe implements tps.Family.
func (f Family) Probe(ctx context.Context, l tps.Link, p profile.Profile) (tps.Contents, error) {
	es := described()
	foresee := p.PIV.Attest && l.Card().Unmanaged
	if foresee {
		es = append(es, apdu.Entries(apdu.Plain|apdu.Anyway, piv.GetDataCommand(piv.AttestationCertificate))...)
	}
	d, err := apdu.ReadAhead(ctx, l.Doer(), es)
	if err != nil {
		return tps.Contents{}, err
	}
	app, err := piv.Select(ctx, d)
	if err != nil {
		return tps.Contents{}, refusal(err)
	}
	r := reader{d: d, c: tps.Contents{Present: true, Loose: true}, pinTries: -1}
	r.version(ctx, app, l.Card().Unmanaged)
	r.secrets(ctx)
	for _, s := range slots {
		r.slot(ctx, s, p)
	}
	r.rest(ctx)
	if l.Card().Unmanaged {
		r.crowded(ctx)
	}
	if foresee {
		r.unproved(ctx, f, p)
	}
	return r.c, r.err
}

// reader reads a card; what the card refuses is left out, everything else ends it.
type reader struct {
	d        apdu.Doer
	c        tps.Contents
	pinTries int  // that the PIN has left; -1 = not told
	factory  bool // the management key is the factory's
	former   int  // keys, by the key history
	err      error
}

// told reports whether the card told something that can be used.
func (r *reader) told(err error) bool {
	if e := refusal(err); e != nil && lost(e) {
		r.err = errors.Join(r.err, e)
	}
	return r.err == nil && err == nil
}

// lost tells a card that is gone from one that answers nonsense.
func lost(err error) bool {
	return errors.Is(err, apdu.ErrCardRemoved) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// holds notes something that people would miss.
func (r *reader) holds(format string, a ...any) {
	r.c.Holds = append(r.c.Holds, fmt.Sprintf(format, a...))
}

// appletLabel is how PivApplet calls itself.
var appletLabel = regexp.MustCompile(`^PivApplet v([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})\b`)

// version is that of the load file, where the applet tells it, or the firmware's.
func (r *reader) version(ctx context.Context, app piv.Application, builtIn bool) {
	v, err := piv.ReadVersion(ctx, r.d)
	if r.told(err) {
		r.c.Version = v.String()
	}
	if m := appletLabel.FindStringSubmatch(app.Label); m != nil && !builtIn {
		r.c.Version = m[1]
	}
}

// secrets reads the state of PIN, PUK and management key. A card that does not tell is
// taken for one with a PIN, but not for one that somebody would miss it on.
func (r *reader) secrets(ctx context.Context) {
	r.c.HasPIN = true
	if m, err := piv.ReadMetadata(ctx, r.d, piv.PIN); r.told(err) {
		r.c.HasPIN = !m.Default
		if m.Tries > 0 {
			r.pinTries = m.Left
		}
		if !m.Default || r.pinTries == 0 {
			r.holds("a PIN")
		}
	}
	if m, err := piv.ReadMetadata(ctx, r.d, piv.PUK); r.told(err) {
		blocked := m.Tries > 0 && m.Left == 0
		if blocked {
			r.c.Locked = errBlockedPUK
		}
		if (blocked || !m.Default) && len(r.c.Holds) == 0 {
			r.holds("a PUK") // without which no PIN can be set: somebody has used the card
		}
	}
	if m, err := piv.ReadMetadata(ctx, r.d, piv.Management); r.told(err) {
		r.c.OwnAlgorithm, r.factory = byte(m.Algorithm), m.Default
	}
}

// errBlockedPUK says what remains possible.
var errBlockedPUK = errors.New("the card's PUK is blocked, so that no PIN can be set any more: who knows the PIN can go on using the card and change it; " +
	"else the card has to be formatted and enrolled again, and its keys are lost")

// slot reads a slot's key and certificate. Of a card that tells nothing of its keys (before
// firmware 5.3) the certificate says which key there is.
func (r *reader) slot(ctx context.Context, s piv.Slot, p profile.Profile) {
	m, untold := piv.ReadMetadata(ctx, r.d, s)
	hasKey := r.told(untold) && m.Algorithm.Asymmetric()
	cert, err := piv.ReadCertificate(ctx, r.d, s)
	if err == nil && piv.IsUnsupported(untold) {
		m.Algorithm, hasKey = algorithmIn(cert)
	}
	if hasKey {
		alg := nameOf(m.Algorithm)
		r.c.Slots = append(r.c.Slots, tps.Slot{Number: int(s), Bits: profile.Key{Alg: alg}.Bits(), Alg: alg})
	}
	for _, k := range p.Key {
		if slotOf(k) != s {
			continue
		}
		c := tps.CardCertificate{Key: k, Public: m.Public}
		if err == nil {
			c.DER = cert.Raw
		}
		r.c.Certificates = append(r.c.Certificates, c)
	}
	switch {
	case r.told(err):
		r.holds("in slot %v the certificate of %s", s, subjectOf(cert))
	case err != nil && refusal(err) != nil && r.err == nil:
		r.holds("in slot %v something that is no certificate", s)
	case hasKey:
		r.holds("in slot %v a key (%v)", s, m.Algorithm)
	}
}

// algorithmIn is that of a certificate's key, false of one that no card has.
func algorithmIn(cert *x509.Certificate) (piv.Algorithm, bool) {
	pub, err := x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo) // of X25519 cert.PublicKey is nil
	if err != nil {
		return 0, false
	}
	alg, err := piv.AlgorithmOf(pub)
	return alg, err == nil
}

// subjectOf is the subject of a certificate for people, with the names of its attributes.
func subjectOf(cert *x509.Certificate) string {
	text, err := ca.FormatDN(cert.RawSubject)
	if err != nil {
		return cert.Subject.String()
	}
	return text
}

// holdsGuarded is what a card with a guarded management key holds.
const holdsGuarded = "a management key behind its PIN"

// rest reads what else people would miss.
func (r *reader) rest(ctx context.Context) {
	if b, err := piv.GetData(ctx, r.d, piv.KeyHistoryObject); r.told(err) {
		if h, err := piv.ParseKeyHistory(b); err == nil && h.OnCard > 0 {
			r.former = h.OnCard
			r.holds("former keys (%d)", h.OnCard)
		}
	}
	if admin, err := readAdminData(ctx, r.d); r.told(err) {
		r.behind(ctx, admin)
	}
}

// behind learns whether the management key is behind the PIN, and whether that may be
// tried. Only some programs say so on the card; what they store cannot be seen without.
func (r *reader) behind(ctx context.Context, admin piv.AdminContent) {
	if !admin.BehindPIN() && r.factory {
		return
	}
	if r.pinTries < 0 {
		if s, err := piv.ReadPINStatus(ctx, r.d); r.told(err) {
			r.pinTries = s.Tries
		}
	}
	switch {
	case admin.BehindPIN():
		r.holds(holdsGuarded)
		r.c.Behind = tps.BehindPIN
		r.c.HasPIN = r.c.HasPIN || admin.Salt != nil // maybe of another PIN than a cut left the card with
	case r.pinTries != 0: // a blocked one gives nothing away
		r.c.Behind = tps.MaybeBehindPIN
	}
	r.c.BlockedPIN = atRisk(r.pinTries)
}
