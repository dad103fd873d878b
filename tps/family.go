// Package tps runs the operations on cards: format, enroll, renew, PIN reset and key
// changeover, from the first command to the record of what happened.
//
// An operation is a pure planner ([Facts] in, [Plan] out) and one runner for
// all of them: journal entry, step, confirmation. An applet is one type behind
// [Family]. Cards, key service, authorities and stores are handed to [New] as
// interfaces; the package opens none of them.
//
// An [Engine] is safe for concurrent use; one operation owns one card.
package tps

import (
	"context"
	"crypto"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// FamilyName names a kind of applet in a profile.
type FamilyName string

// Family is one kind of applet. Its methods are called between the operation's
// own steps, never concurrently for one card.
type Family interface {
	Name() FamilyName
	// Probe reads what is on the card. It changes nothing.
	Probe(ctx context.Context, l Link, p profile.Profile) (Contents, error)
	// Check says whether a card with contents c can carry profile p. An error without a
	// status of its own means that no card can. It is pure.
	Check(c Contents, p profile.Profile) error
	// Prepare leaves an empty applet of the wanted version. It destroys what was
	// there: irreversible.
	Prepare(ctx context.Context, l Link, p profile.Profile) error
	// Open begins the personalisation of a prepared applet.
	Open(ctx context.Context, l Link, p profile.Profile) (Applet, error)
}

// CertificateReader is the optional ability of a Family to read what Probe, which every
// operation runs, leaves out: the certificates that the card shows for the profile's
// keys. A card whose certificates cannot be read has none. It changes nothing.
type CertificateReader interface {
	Certificates(ctx context.Context, l Link, p profile.Profile) ([]CardCertificate, error)
}

// Preparer is the optional ability of a Family to say, before anything is
// destroyed, whether Prepare has what it needs on this side.
type Preparer interface {
	CanPrepare(c Card, p profile.Profile) error
}

// Ordered is the optional ability of a Family to say which of two versions of its
// applet is the older one. Where it cannot, no version is older than another. It is pure.
type Ordered interface {
	Older(version, than string) bool
}

// Describer is the optional ability of a Family to read the versions of its
// applet by plain commands, before the login: mappings of profiles may ask for
// them. present is false on a card without the applet.
type Describer interface {
	Versions(ctx context.Context, d apdu.Doer) (v profile.AppletVersions, present bool, err error)
}

// Identifier is the optional ability of a Family to tell a card from every other one
// by plain commands, where the card has no card manager or none that tells. ok is false
// on a card without the applet; an applet that has nothing to go by is an error.
type Identifier interface {
	Identify(ctx context.Context, d apdu.Doer) (id Identity, ok bool, err error)
}

// Identity is who a card says it is: a claim until keys have proved it.
type Identity struct {
	CUID      apdu.CUID
	MSN       string
	Simulated bool // a software card
}

// KeyChanger is the optional ability of a Family whose applets have keys of their own,
// beside those of the card manager. Where there is no card manager they are what proves
// the card.
type KeyChanger interface {
	// KeyVersion has the applet prove which of the keys asked for it has, in their
	// order; zero if none of them. With a zero algorithm any is asked for. It changes
	// nothing on the card.
	KeyVersion(ctx context.Context, l Link, asks []token.AppletKeys) (token.AppletKeys, error)
	// WantedKeys are those that the profile gives a card with contents c; zero leaves
	// the card those it has. It is pure.
	WantedKeys(c Contents, p profile.Profile) token.AppletKeys
	// ChangeKeys gives the applet new keys. It may be repeated after a cut at any
	// moment, with the keys that KeyVersion then finds.
	ChangeKeys(ctx context.Context, l Link, p profile.Profile, to token.AppletKeys) error
}

// Guard is the optional ability of a Family to protect what a card holds. MayWipe is
// asked before Prepare is planned; known says that the card was prepared here before.
// It is pure.
type Guard interface {
	MayWipe(card Card, c Contents, known bool, p profile.Profile) error
}

// PINKeyed is the optional ability of a KeyChanger whose applets may keep their own keys
// themselves, behind the PIN ([Contents.Behind]). With the PIN that such a card has it
// is taken over as it is; without, it can only be emptied.
type PINKeyed interface {
	// MayTake protects what the card holds, as Guard does, and says why its PIN is not
	// to be asked for. It is pure.
	MayTake(c Contents, known bool, p profile.Profile) error
	// ProveByPIN has the card prove the keys that it keeps. A PIN that it does not take
	// is [ErrCardPIN] where another one may be tried; the last try is never spent. The
	// zero PIN stands for that of a new card.
	ProveByPIN(ctx context.Context, l Link, pin secret.PIN) error
	// ChangeByPIN is ChangeKeys on a card that keeps its keys. The PIN stays; a card
	// that a cut left with that of a new card gets this one.
	ChangeByPIN(ctx context.Context, l Link, p profile.Profile, pin secret.PIN, to token.AppletKeys) error
	// Forget removes from a card with keys that are known here what says that it keeps
	// them itself. It may be repeated.
	Forget(ctx context.Context, l Link) error
	// Forgotten are the contents of a card with contents c behind Forget. It is pure.
	Forgotten(c Contents) Contents
}

// PINUser is the optional ability of a Family to say that GenerateKey needs the PIN
// which SetPIN set, because only with it the new key proves itself.
type PINUser interface {
	NeedsPIN(k profile.Key) bool
}

// Applet is an applet being personalised. What a card refuses for good is marked with
// [Final].
type Applet interface {
	// SetPIN sets the person's PIN and resets the try counter.
	SetPIN(ctx context.Context, pin secret.PIN, tries int) error
	// GenerateKey makes a key pair on the card and proves its possession.
	GenerateKey(ctx context.Context, k profile.Key) (KeyResult, error)
	// ImportKey brings a private key to the card in place of the one in its slot: through
	// the secure channel and encrypted for this card, where the applet has one.
	ImportKey(ctx context.Context, k profile.Key, pkcs8 secret.Secret) error
	// Write writes certificates and objects, reads them back and compares.
	Write(ctx context.Context, c Contents) error
	// Finish marks the card personalised and clears keys that nothing refers to.
	Finish(ctx context.Context) error
}

// IssuerWriter is the optional ability of an Applet to hold the issuer's address,
// which clients without configuration ask for their services. Prepare writes it
// into a new applet.
type IssuerWriter interface {
	// WriteIssuer writes the profile's address and reads it back.
	WriteIssuer(ctx context.Context) error
}

// Attester is the optional ability of an Applet to prove again that it made the key which
// is to get another certificate. Where the profile does not ask for that, the evidence is
// empty.
type Attester interface {
	Attest(ctx context.Context, k profile.Key, pub crypto.PublicKey) (evidence string, err error)
}

// KeyResult is a key pair that a card has got.
type KeyResult struct {
	Public crypto.PublicKey
	CSR    []byte // DER, where the key can sign one
	Proof  []byte // evidence of possession, verified already
	// Evidence that the key was made on this card, verified already: certificates of
	// its maker in PEM, that of the key first. Empty where the profile asks for none.
	Evidence string
}

// Link is what the runner lends to a family.
type Link interface {
	// Doer runs plain commands. A SELECT through it ends an open channel.
	Doer() apdu.Doer
	// Channel selects the application and opens a secure channel with it, or
	// returns the one that is open. ISD() is the card manager.
	Channel(ctx context.Context, aid apdu.AID) (*securechannel.Session, error)
	// Keys is the key service, bound to this card and its open channel.
	Keys() CardKeys
	// Card is what is known of the card.
	Card() Card
	// Progress says how much of a long step is done.
	Progress(ctx context.Context, done, total int)
}

// CardKeys is the part of the key service that a family needs.
type CardKeys interface {
	Random(ctx context.Context, n int) ([]byte, error)
	// Encrypt encrypts under the DEK of the channel that is open.
	Encrypt(ctx context.Context, data secret.Secret) ([]byte, error)
	// Secret derives one of the applet's own keys for this card; alg is that of
	// tks.SecretRequest. Published keys are not asked for here.
	Secret(ctx context.Context, of token.AppletKeys, use tks.Use) (secret.Secret, error)
}

// Contents is what a card carries of a family, or is to carry.
type Contents struct {
	Present      bool   // there is an applet of this family
	Version      string // of the applet, canonical lower case: 1.4.58768072
	MemoryTotal  int    // bytes
	MemoryFree   int    // bytes
	HasPIN       bool
	Personalized bool
	Label        string
	IssuerURL    string // address that the applet holds of its issuer
	Slots        []Slot
	Loose        bool // a slot in use takes a key of another size in place of its own
	OwnAlgorithm byte // of the applet's own keys, as it counts algorithms; 0 = not told
	Behind       Behind
	// BlockedPIN says why the PIN is not to be tried, and what remains possible; nil = it may be.
	BlockedPIN error
	// Holds says in words what the card has that people would miss; nil = nothing.
	Holds []string
	// Locked says why no PIN can be set, and what remains possible; nil = one can.
	Locked error
	// Unproved says why the card's keys would not be taken as the profile demands them to
	// be proved, where that can be foreseen, with the status; nil = no reason is known.
	Unproved error
	// Crowded says why a key that the profile has made anew could not take the place of the
	// one on the card, which is to stay there; nil = no reason is known.
	Crowded      error
	Certificates []CardCertificate
	// Former are certificates that keys had before, the newest first: a family that has
	// room for them writes as many as fit, none reads them.
	Former []CardCertificate
}

// Behind says whether an applet keeps its own keys behind its PIN ([PINKeyed]).
type Behind int

// What an applet shows of that.
const (
	NotBehindPIN   Behind = iota
	MaybeBehindPIN        // its keys are not those of a new one, and nothing says where they are
	BehindPIN             // it says so
)

// Slot is a key slot in use.
type Slot struct {
	Number int
	Bits   int
	Alg    string // as profiles name it; empty = the card tells Bits alone
}

// fits reports whether the slot holds a key such as k.
func (s Slot) fits(k profile.Key) bool {
	return s.Number == k.PrivateSlot() && s.Bits == k.Bits() && (s.Alg == "" || s.Alg == k.Alg)
}

// CardCertificate is a certificate on a card with the key it belongs to. Of one that was
// read DER is empty where there is none, and Public the key that the card shows beside
// it, nil where it shows none.
type CardCertificate struct {
	Key    profile.Key
	Label  string
	DER    []byte
	Public crypto.PublicKey
}
