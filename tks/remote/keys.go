package remote

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
)

// Fingerprint is which keys a node has, as far as the nodes of an array have to have
// the same: a card keyed at one is opened at another.
type Fingerprint struct {
	Masters []MasterPrint `json:"masters"`
	Signers []SignerPrint `json:"signers"`
	// Authority is the embedded authority's certificates in PEM: its own, newest first,
	// and those that its keys have for each other.
	Authority string `json:"authority"`
}

// MasterPrint is a master key by its check value.
type MasterPrint struct {
	Set         tks.KeySetName `json:"set"`
	Version     gp.KeyVersion  `json:"version"`
	Slot        string         `json:"slot,omitempty"` // enc, mac, dek where each has a master key of its own
	KDF         string         `json:"kdf"`
	Diversified bool           `json:"diversified"` // each card gets keys of its own
	KCV         string         `json:"kcv"`
	Type        string         `json:"type"`   // aes-128, …
	Level       string         `json:"level"`  // protection there, A (best) to D
	Why         string         `json:"why"`    // it is not a better one
	Origin      string         `json:"origin"` // generated, imported
}

// SignerPrint is a key pair by its public key.
type SignerPrint struct {
	Label hsm.SignerLabel `json:"label"`
	ID    string          `json:"id"` // hsm.PublicKeyID in upper-case hexadecimal
}

// PrintSigner is the part of a fingerprint that tells a key pair.
func PrintSigner(l hsm.SignerLabel, public crypto.PublicKey) (SignerPrint, error) {
	id, err := hsm.PublicKeyID(public)
	return SignerPrint{Label: l, ID: strings.ToUpper(hex.EncodeToString(id))}, err
}

// PrintMasters is the part of a fingerprint that tells master keys.
func PrintMasters(masters []hsm.Master) []MasterPrint {
	out := make([]MasterPrint, len(masters))
	for i, m := range masters {
		out[i] = MasterPrint{
			Set: m.Set, Version: m.Version, KDF: m.KDF.String(), Diversified: m.KDF.Diversified(), KCV: m.KCV.String(),
			Type: m.Kind.String(), Level: m.Level.String(), Why: m.Why, Origin: string(m.Origin),
		}
		if m.Slot != 0 {
			out[i].Slot = m.Slot.String()
		}
	}
	return out
}

// name is what a person calls a key set version.
func (m MasterPrint) name() string {
	if m.Slot != "" {
		return fmt.Sprintf("key set %s version %v %s", m.Set, m.Version, m.Slot)
	}
	return fmt.Sprintf("key set %s version %v", m.Set, m.Version)
}

// Differences says for a person what two nodes, called here and there, do not have
// alike, one sentence each, sorted; nil where all is the same. Cards and certificates
// of the one would fail at the other.
func Differences(here string, a Fingerprint, there string, b Fingerprint) []string {
	var out []string
	for what, pair := range pairs(a.index(), b.index()) {
		switch {
		case pair[0] == "":
			out = append(out, fmt.Sprintf("%s: %s has it, %s has not", what, there, here))
		case pair[1] == "":
			out = append(out, fmt.Sprintf("%s: %s has it, %s has not", what, here, there))
		case pair[0] != pair[1]:
			out = append(out, fmt.Sprintf("%s: %s at %s, %s at %s", what, pair[0], here, pair[1], there))
		}
	}
	if out == nil && a.Authority != b.Authority {
		return []string{fmt.Sprintf("the certificates of the authority: other ones at %s than at %s, though for the same keys", here, there)}
	}
	slices.Sort(out)
	return out
}

// index is what is compared, by name.
func (f Fingerprint) index() map[string]string {
	out := map[string]string{}
	for _, m := range f.Masters {
		out[m.name()] = fmt.Sprintf("%s, check value %s, diversification %s", m.Type, m.KCV, m.KDF)
	}
	for _, s := range f.Signers {
		out["key pair "+string(s.Label)] = "public key " + s.ID
	}
	return out
}

func pairs(a, b map[string]string) map[string][2]string {
	out := map[string][2]string{}
	for k, v := range a {
		out[k] = [2]string{v, b[k]}
	}
	for k := range maps.Keys(b) {
		out[k] = [2]string{a[k], b[k]}
	}
	return out
}

// Diversified reports whether every version of a key set gives each card keys of its
// own; false where there is none.
func (f Fingerprint) Diversified(set tks.KeySetName) bool {
	found := false
	for _, m := range f.Masters {
		if m.Set != set {
			continue
		}
		if !m.Diversified {
			return false
		}
		found = true
	}
	return found
}

type keysRequest struct{}

func (*keysRequest) about() subject { return subject{} }
func (*keysRequest) wipe()          {}

func (Fingerprint) wipe() {}

func (h *Handler) keys(ctx context.Context, _ *keysRequest) (answer, error) {
	if h.cfg.Keys == nil {
		return answer{}, fmt.Errorf("this node does not tell which keys it has: %w", tks.ErrDenied)
	}
	f, err := h.cfg.Keys(ctx)
	return answer{body: f}, err
}

// Fingerprint asks which keys there are, at the first node that answers.
func (c *Client) Fingerprint(ctx context.Context) (Fingerprint, error) {
	f, err := ask(ctx, c.pool, string(MethodKeys), []byte("{}"), how{}, func(Fingerprint) error { return nil })
	if err != nil {
		return Fingerprint{}, fmt.Errorf("asking for the keys there are: %w", err)
	}
	return f, nil
}

// FingerprintOf asks one node which keys it has.
func (c *Client) FingerprintOf(ctx context.Context, n Node) (Fingerprint, error) {
	var out Fingerprint
	err := c.pool.at(ctx, n, c.pool.cfg.CallTimeout, func(ctx context.Context, n Node) error {
		return post(ctx, n, string(MethodKeys), []byte("{}"), how{}, func(b []byte) error { return decode(b, &out) })
	})
	if err != nil {
		return Fingerprint{}, fmt.Errorf("asking %s for the keys it has: %w", n.Name, err)
	}
	return out, nil
}

// checkTimeout is how long Check waits for a node.
const checkTimeout = 2 * time.Second

// Check asks every node at once for a few random bytes, and returns what is then
// known of each. It takes two seconds at most, or Config.CallTimeout if that is less.
func (c *Client) Check(ctx context.Context) []NodeStatus {
	done := make(chan struct{})
	nodes := c.pool.cfg.Nodes()
	for _, n := range nodes {
		go func() {
			defer func() { done <- struct{}{} }()
			c.pool.at(ctx, n, min(checkTimeout, c.pool.cfg.CallTimeout), func(ctx context.Context, n Node) error {
				return post(ctx, n, string(MethodRandom), []byte(`{"n":8}`), how{}, func(b []byte) error {
					var r randomReply
					defer func() { r.wipe() }()
					if err := decode(b, &r); err != nil {
						return err
					}
					return wants(8, r.Data.Len())
				})
			})
		}()
	}
	for range nodes {
		<-done
	}
	return c.Status()
}
