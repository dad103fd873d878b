package tps

import (
	"fmt"
	"slices"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Operation is what a client asks for.
type Operation string

// Operations, named as profiles, journals and the command line name them.
const (
	OpFormat        Operation = "format"
	OpEnroll        Operation = "enroll"
	OpRenew         Operation = "renew"
	OpPINReset      Operation = "pin-reset"
	OpKeyChangeover Operation = "key-changeover"
)

// activity is the operation's name in an activity record (§17.3).
func (o Operation) activity() string {
	switch o {
	case OpEnroll:
		return "enrollment"
	case OpRenew:
		return "renewal"
	case OpPINReset:
		return "pin_reset"
	case OpKeyChangeover:
		return "key_changeover"
	case OpFormat:
		return "format"
	}
	return "unsupported" // never the client's own words (DEF-17)
}

// Request is what BEGIN_OP carries, and where it came from.
type Request struct {
	Operation Operation
	TokenType string            // profile wished for
	KeySet    string            // key set wished for; mappings may ask for it
	Profile   token.ProfileName // the one profile that will do; empty = any
	ATR       apdu.ATR
	Locale    string
	Resume    bool   // an unfinished operation may be finished before this one
	Ticket    bool   // the person presents a ticket in place of the login
	Forms     bool   // the client shows any form, not only that for user name and password
	Client    string // network address
}

// Card is what a card showed of itself.
type Card struct {
	CUID    apdu.CUID
	MSN     string
	ATR     apdu.ATR
	Manager apdu.AID // AID of the card manager
	// Unmanaged cards have no card manager: their applet is built in, and its own keys
	// are what proves the card.
	Unmanaged bool
	// Own are the keys of its own that the applet has proved; zero where it has none,
	// or others than were asked for.
	Own      token.AppletKeys
	Protocol securechannel.Protocol
	Option   securechannel.Option
	Versions []KeySetInfo // of the key information template; empty if the card shows none
	// Proved is the INITIALIZE UPDATE with which the card proved its keys, under
	// the key set KeySet. Set after the login.
	Proved *securechannel.InitUpdate
	KeySet tks.KeySetName
	// OldVersions are versions beside the proved one that a cut changeover left.
	OldVersions []gp.KeyVersion
}

// KeySetInfo is one version of the key information template.
type KeySetInfo struct {
	Version gp.KeyVersion
	Type    byte // 80 DES, 88 AES
	Length  int  // bytes per key
}

// version finds a key version in the template.
func (c Card) version(v gp.KeyVersion) (KeySetInfo, bool) {
	i := slices.IndexFunc(c.Versions, func(k KeySetInfo) bool { return k.Version == v })
	if i < 0 {
		return KeySetInfo{}, false
	}
	return c.Versions[i], true
}

// keySize is the size of the first key of the template in bits, 0 where the card
// does not show it: what the mapping filter sym_key_size compares.
func (c Card) keySize() int {
	if len(c.Versions) == 0 {
		return 0
	}
	return 8 * c.Versions[0].Length
}

// keyInfo is the key information of the proved keys as the token record keeps it.
func keyInfo(iu securechannel.InitUpdate) token.KeyInfo {
	k := token.KeyInfo{byte(iu.KeyVersion), byte(iu.Protocol)}
	if iu.Protocol == securechannel.SCP03 {
		k = append(k, byte(iu.Option))
	}
	return k
}

// Readiness is what answered before the first irreversible step.
type Readiness struct {
	CA      error // nil = ready
	Applet  error // nil = the applet that the profile wants could be loaded
	Archive error // nil = ready, or the profile archives nothing
}

// Facts are all that a planner knows. A planner does no I/O.
type Facts struct {
	Asked    Request
	Card     Card
	Contents Contents
	Record   *token.Token // nil only for "not found"
	Certs    []token.Certificate
	Open     *token.Journal // unfinished operation on this card, the one to finish
	Profile  profile.Profile
	Person   auth.Person // who logged in
	Holder   auth.Person // whom the card is for: the person of Open, else Person
	// Recorded is the family of the record's profile, empty if that is not known.
	Recorded FamilyName
	// Elsewhere is a profile of another family than Family's whose certificates on the
	// card are still good; empty = none.
	Elsewhere token.ProfileName
	// OtherActive is another ACTIVE token of the person.
	OtherActive *apdu.CUID
	Ready       Readiness
	Family      Family
	Lab         bool
	// Bound says whether the keys of a set are each card's own (diversified, not published).
	Bound func(tks.KeySetName) bool
	Now   time.Time
}

// state is the token's state, Unformatted for a card without record.
func (f Facts) state() token.State {
	if f.Record == nil {
		return token.Unformatted
	}
	return f.Record.State
}

// wantsKeys reports whether op is to move the card to the profile's key set, and
// the card is not there yet.
func (f Facts) wantsKeys(op Operation) bool {
	k := f.Profile.Keys
	if f.Card.Unmanaged || k.Version == 0 || !slices.Contains(k.ChangeOn, string(op)) {
		return false
	}
	return !f.hasWantedKeys() || len(f.Card.OldVersions) > 0
}

func (f Facts) hasWantedKeys() bool {
	k := f.Profile.Keys
	return f.Card.KeySet == k.Set && f.Card.Proved != nil && int(f.Card.Proved.KeyVersion) == k.Version
}

// finalKeySet is the key set the card has when op is done.
func (f Facts) finalKeySet(op Operation) tks.KeySetName {
	if f.wantsKeys(op) {
		return f.Profile.Keys.Set
	}
	return f.Card.KeySet
}

// String names the card for logs.
func (c Card) String() string { return fmt.Sprintf("card %s", c.CUID) }
