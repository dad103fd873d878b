// Package profile holds what the operations do to a kind of card: profiles as
// typed TOML documents, decoded strictly and validated as a whole before they
// are taken, and the choice of a profile for a card: by [Choose], with the mappings
// of [Resolver]s.
package profile

import (
	"context"
	"time"

	"inkan/tks"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// Profile is one profile document.
type Profile struct {
	Name       token.ProfileName `toml:"name"`
	Title      string            `toml:"title"`
	Family     string            `toml:"family"`     // coolkey (default), piv
	Operations []string          `toml:"operations"` // format, enroll, renew, pin-reset, key-changeover

	Auth    Auth    `toml:"auth"`
	Card    Card    `toml:"card"`
	Channel Channel `toml:"channel"`
	Keys    Keys    `toml:"keys"`
	Applet  Applet  `toml:"applet"`
	PIN     PIN     `toml:"pin"`
	Format  Format  `toml:"format"`
	Enroll  Enroll  `toml:"enroll"`
	Renewal Renewal `toml:"renewal"`
	Key     []Key   `toml:"key"`
	Compat  Compat  `toml:"compat"`
	PIV     PIV     `toml:"piv"` // of profiles for PIV applets alone

	// Revision is the stored revision, 0 for a document not stored. Not part of the document.
	Revision int `toml:"-"`
}

// Auth says who may run the operations.
type Auth struct {
	ID      string    `toml:"id"`      // authenticator; default local
	Role    auth.Role `toml:"role"`    // "" = the owner, or anyone known for a card without owner
	Retries int       `toml:"retries"` // login attempts; default 3
}

// Card says which cards are served.
type Card struct {
	AllowUnknown  string `toml:"allow_unknown"`   // operator (default), anyone, never
	CUIDIsKDD     bool   `toml:"cuid_is_kdd"`     // default false
	CheckKeyInfo  bool   `toml:"check_key_info"`  // default true
	KeyVersionMin uint8  `toml:"key_version_min"` // default 1
	KeyVersionMax uint8  `toml:"key_version_max"` // default 255
	// OtherFamily lets format and enroll take a card that is in use with an applet of
	// another family. What that one holds stays on the card; its certificates are treated
	// as [enroll] old_certs or [format] revoke says.
	OtherFamily bool `toml:"other_family"`
}

// Channel says how secure channels are opened.
type Channel struct {
	Level string `toml:"level"` // mac, enc, best (default)
}

// Keys says which card manager keys a card is to have.
type Keys struct {
	Set      tks.KeySetName `toml:"set"`       // default site
	Version  int            `toml:"version"`   // key version wanted, 0 (leave) to 127
	ChangeOn []string       `toml:"change_on"` // default format, key-changeover
	Factory  tks.KeySetName `toml:"factory"`   // for versions that neither Set nor the record names; default factory
}

// Applet says which applet a card is to have.
type Applet struct {
	Version    string            `toml:"version"`
	ByProtocol map[string]string `toml:"by_scp"` // "SCP02" → version
	// Update lets an enrollment load Version over another version; default true.
	// Format loads it always.
	Update bool `toml:"update"`
	// Downgrade lets Version be loaded over a newer one; default true.
	Downgrade    bool   `toml:"downgrade"`
	EmptyCard    bool   `toml:"empty_card"` // take cards that are new here without an applet; default true
	InstanceSize int    `toml:"instance_size"`
	Heap         int    `toml:"heap"`
	Block        int    `toml:"block"`      // 0 = largest that fits
	IssuerURL    string `toml:"issuer_url"` // pattern, see Issuer; empty = not written
}

// PIN gives the rules for PINs: lengths in bytes.
type PIN struct {
	Min   int  `toml:"min"`   // default 4; PIV 6
	Max   int  `toml:"max"`   // default 10; PIV 8
	Tries int  `toml:"tries"` // default 10; PIV 0: as the card has
	Reset bool `toml:"reset"` // default true
	// Kinds is the least number of kinds of characters (digits, lower, upper,
	// other); Simple allows runs such as 1234 and 1111 and the user's name.
	Kinds  int  `toml:"kinds"`  // default 1
	Simple bool `toml:"simple"` // default false
	Digits bool `toml:"digits"` // digits alone; default true for PIV applets, else false
}

// Format gives the rules of format.
type Format struct {
	Revoke bool `toml:"revoke"` // default true
	Reason int  `toml:"reason"` // default 0
}

// Enroll gives the rules of enrollment.
type Enroll struct {
	OldCerts      string `toml:"old_certs"`      // revoke (default), keep, hold
	SeveralActive bool   `toml:"several_active"` // default false
	Label         string `toml:"label"`          // default $auth.cn$
	Compress      bool   `toml:"compress"`       // default true
}

// Key is one key pair with its certificate.
type Key struct {
	Type string `toml:"type"`
	// Cert is the certificate number, 0 to 7. On a CoolKey card the key is in slots 2n
	// and 2n+1; of a PIV profile it is by default 0 to 3 for the slots 9A, 9C, 9D and 9E.
	Cert int `toml:"cert"`
	// Alg is rsa-2048 (CoolKey's default), rsa-3072, rsa-4096, p256 (PIV's), p384, p521
	// (CoolKey), ed25519, x25519 (PIV).
	Alg       string `toml:"alg"`
	CA        string `toml:"ca"` // default embedded
	CAProfile string `toml:"ca_profile"`
	Label     string `toml:"label"`
	Overwrite bool   `toml:"overwrite"` // default true
	// Made says who makes the key pair: card (default), or server, which the card then
	// imports. The server makes no key that signs.
	Made string `toml:"made"`
	// Archive keeps the private key in the archive before the card has it; for keys
	// that the server makes. Default false.
	Archive bool `toml:"archive"`
	// Keep leaves the key and its certificate on the card at another enrollment of
	// the same person, as long as the certificate is good; default false.
	Keep bool `toml:"keep"`
	// OldCerts is what becomes of this key's certificate when another one replaces
	// it: revoke, keep, hold; empty = [enroll] old_certs.
	OldCerts string   `toml:"old_certs"`
	User     int      `toml:"user"` // PIN number that may use it, 15 = none needed
	Usage    int      `toml:"usage"`
	Private  []string `toml:"private"` // capability names
	Public   []string `toml:"public"`

	// Of a PIV key: the slot (9A, 9C, 9D, 9E), when it wants the PIN (never, once,
	// always) and a touch (never, always, cached); empty = the slot's own. Retire is
	// how many former keys of slot 9D the card keeps, in its retired slots.
	Slot        string `toml:"slot"`
	PINPolicy   string `toml:"pin_policy"`
	TouchPolicy string `toml:"touch_policy"`
	Retire      int    `toml:"retire"`
}

// PrivateSlot is the number of the private key's slot: of a PIV key the slot it names,
// else 2n.
func (k Key) PrivateSlot() int {
	if n, ok := k.slotNumber(); ok {
		return n
	}
	return 2 * k.Cert
}

// PublicSlot is the number of the public key's slot, 2n+1.
func (k Key) PublicSlot() int { return 2*k.Cert + 1 }

// Compat holds switches for old cards and for the soft token of Dogtag's tpsclient,
// which needs all of them the other way (tps-protocol §14.7).
type Compat struct {
	// NoLe: SCP01, no Le after a C-MAC; the soft token takes an APDU's last eight
	// bytes for the C-MAC.
	NoLe bool `toml:"no_le"`
	// EmptyField: SCP01 and SCP02, the empty data field is encrypted too at level
	// enc; the soft token crashes on a bare C-MAC there.
	EmptyField bool `toml:"empty_field"`
	// DataCounter: the encryption counter of an SCP03 card moves for commands with data
	// alone, against the specification.
	DataCounter bool `toml:"data_counter"`
	// ListKeys asks the applet for its keys (LIST KEYS), so that keys of another
	// size are noticed and confirmed ones of a cut enrollment are used; default
	// true. The soft token leaves at a command that it does not know.
	ListKeys bool `toml:"list_keys"`
	// ClearSlots clears keys that nothing refers to (CLEAR KEY SLOTS); default true.
	// Old applets refuse it, the soft token leaves.
	ClearSlots bool `toml:"clear_slots"`
	// ReadBack reads what was written to the card and compares; default true. What
	// was written to the soft token is lost.
	ReadBack bool `toml:"read_back"`
	// AppletCheck compares the version of an applet that was loaded; default true.
	// The soft token shows the version that it was told, whatever is loaded.
	AppletCheck bool `toml:"applet_check"`
}

// State says whether a profile serves.
type State string

// Profile states.
const (
	Enabled  State = "enabled"
	Disabled State = "disabled"
	Pending  State = "pending"
)

// Record is a stored profile.
type Record struct {
	Name     token.ProfileName
	Revision int // +1 per change of the document or the state
	State    State
	Document string // TOML as written
	Created  time.Time
	Modified time.Time
}

// Store stores profiles. Old revisions are kept: a journal is finished with the
// revision it was begun with.
type Store interface {
	Profile(ctx context.Context, name token.ProfileName) (Record, error)                       // token.ErrNotFound
	ProfileRevision(ctx context.Context, name token.ProfileName, revision int) (Record, error) // token.ErrNotFound
	Profiles(ctx context.Context) ([]Record, error)
	// PutProfile stores revision r.Revision+1; token.ErrConflict if r.Revision is not the newest (0 = new).
	PutProfile(ctx context.Context, r Record) (Record, error)
}

// Resolvers stores resolvers. A change counts from the next session on.
type Resolvers interface {
	Resolver(ctx context.Context, name string) (ResolverRecord, error) // token.ErrNotFound
	Resolvers(ctx context.Context) ([]ResolverRecord, error)           // ordered by name
	// PutResolver stores revision r.Revision+1; token.ErrConflict if r.Revision is not the newest (0 = new).
	PutResolver(ctx context.Context, r ResolverRecord) (ResolverRecord, error)
	// DeleteResolver removes it; token.ErrNotFound, token.ErrConflict if revision is not the newest.
	DeleteResolver(ctx context.Context, name string, revision int) error
}
