package api

import (
	"encoding/hex"
	"errors"
	"net/http"
	"slices"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps/token"
)

// KeySet is one version of a key set: a master key in the HSM or key file.
type KeySet struct {
	ID      string `json:"id"` // name/version
	Name    string `json:"Name"`
	Version string `json:"Version"`        // two hexadecimal digits
	Slot    string `json:"Slot,omitempty"` // enc, mac, dek where each has a master key of its own
	Type    string `json:"Type"`           // aes-128, …
	KDF     string `json:"KDF"`
	KCV     string `json:"KCV"`
	Level   string `json:"Level"`                 // protection, A (best) to D
	Why     string `json:"LevelReason,omitempty"` // what keeps it from being a better one
	Origin  string `json:"Origin"`                // generated, imported
	Created Millis `json:"Created,omitempty"`
	Retired bool   `json:"Retired"` // no new card gets it
}

// NewKeySet is the body of POST keysets.
type NewKeySet struct {
	Name    string `json:"Name"`
	Version string `json:"Version"`
	Type    string `json:"Type"`
	KDF     string `json:"KDF,omitempty"` // empty: kdf3 for AES, visa2 for DES
}

// ImportKeySet is the body of POST keysets/import but for the keys, which
// [EncodeSecret] adds as "keys": their values in hexadecimal, one behind the other.
type ImportKeySet struct {
	NewKeySet
	KCVs []string `json:"KCVs"` // of one key for all slots, or of the keys for enc, mac and dek
}

func (a *api) listKeySets(c *call) (reply, error) {
	sets, err := a.KeySets.KeySets(c.Context())
	if err != nil {
		return reply{}, err
	}
	total := len(sets)
	if sets == nil {
		sets = []KeySet{}
	}
	return reply{body: List[KeySet]{Total: &total, Entries: sets}}, nil
}

// decodeKeySet reads a NewKeySet body.
func decodeKeySet(c *call) (in NewKeySet, name tks.KeySetName, v gp.KeyVersion, err error) {
	if err = c.decode(&in); err == nil {
		name, v, err = parseKeySet(in.Name, in.Version)
	}
	return in, name, v, err
}

func (a *api) createKeySet(c *call) (reply, error) {
	in, name, v, err := decodeKeySet(c)
	if err != nil {
		return reply{}, err
	}
	if err := a.intendKeySet(c, "create", name, v, in.Type); err != nil {
		return reply{}, err
	}
	set, err := a.KeySets.CreateKeySet(c.Context(), name, v, in.Type, in.KDF)
	if err != nil {
		return reply{}, newKeySetError(name, v, err)
	}
	return reply{status: http.StatusCreated, body: set}, nil
}

func (a *api) checkKeySet(c *call) (reply, error) {
	in, name, v, err := decodeKeySet(c)
	if err != nil {
		return reply{}, err
	}
	return reply{}, newKeySetError(name, v, a.KeySets.CheckKeySet(c.Context(), name, v, in.Type, in.KDF))
}

func newKeySetError(name tks.KeySetName, v gp.KeyVersion, err error) error {
	if errors.Is(err, token.ErrConflict) {
		return &Error{Status: http.StatusConflict, Message: "key set " + string(name) + " has a version " + v.String() + " already", Err: err}
	}
	return err
}

func (a *api) importKeySet(c *call) (reply, error) {
	var in struct {
		ImportKeySet
		Keys Text `json:"keys"`
	}
	defer func() { in.Keys.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	name, v, err := parseKeySet(in.Name, in.Version)
	if err != nil {
		return reply{}, err
	}
	keys, kcvs, err := in.split(in.Keys.Secret)
	defer func() {
		for _, k := range keys {
			k.Wipe()
		}
	}()
	if err != nil {
		return reply{}, err
	}
	if err := a.intendKeySet(c, "import", name, v, in.Type); err != nil {
		return reply{}, err
	}
	sets, err := a.KeySets.ImportKeySet(c.Context(), name, v, in.Type, in.KDF, keys, kcvs)
	if err != nil {
		return reply{}, newKeySetError(name, v, err)
	}
	total := len(sets)
	return reply{status: http.StatusCreated, body: List[KeySet]{Total: &total, Entries: sets}}, nil
}

// split reads as many keys as there are check values.
func (in ImportKeySet) split(digits secret.Secret) ([]secret.Secret, []gp.KCV, error) {
	var kcvs []gp.KCV
	for _, s := range in.KCVs {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != len(gp.KCV{}) {
			return nil, nil, badRequest("check value %q: want 6 hexadecimal digits", s)
		}
		kcvs = append(kcvs, gp.KCV(b))
	}
	if n := len(kcvs); n != 1 && n != 3 {
		return nil, nil, badRequest("%d check values: want one, or three for enc, mac and dek", n)
	}
	all := make([]byte, digits.Len()/2)
	defer clear(all)
	if _, err := hex.Decode(all, digits.Bytes()); err != nil || len(all) == 0 || len(all)%len(kcvs) != 0 {
		return nil, nil, badRequest("the keys are not %d keys of one length in hexadecimal", len(kcvs))
	}
	var keys []secret.Secret
	for part := range slices.Chunk(all, len(all)/len(kcvs)) {
		keys = append(keys, secret.New(part).Clone())
	}
	return keys, kcvs, nil
}

func (a *api) intendKeySet(c *call, op string, name tks.KeySetName, v gp.KeyVersion, kind string) error {
	return a.intend(c, map[string]string{"op": op, "key_set": string(name), "key_version": v.String(), "type": kind})
}

// parseKeySet refuses the built-in set and versions that no stored key has.
func parseKeySet(name, version string) (tks.KeySetName, gp.KeyVersion, error) {
	n, err := tks.ParseKeySetName(name)
	if err != nil {
		return n, 0, badRequest("%v", err)
	}
	v, err := gp.ParseKeyVersion(version)
	if err != nil {
		return n, v, badRequest("%v", err)
	}
	if n == tks.Factory {
		return n, v, badRequest("the key set %s is built in", n)
	}
	if v < 0x01 || v > 0x7F {
		return n, v, badRequest("key version %v: want 01 to 7F", v)
	}
	return n, v, nil
}

// keySet reads the key set of the path and refuses a version that is not there.
func (a *api) keySet(c *call) (tks.KeySetName, gp.KeyVersion, error) {
	name, v, err := parseKeySet(c.PathValue("name"), c.PathValue("version"))
	if err != nil {
		return name, v, err
	}
	sets, err := a.KeySets.KeySets(c.Context())
	if err != nil {
		return name, v, err
	}
	for _, s := range sets {
		if s.Name == string(name) && s.Version == v.String() {
			return name, v, nil
		}
	}
	return name, v, refuse(http.StatusNotFound, "there is no key set %s version %v", name, v)
}

func (a *api) testKeySet(c *call) (reply, error) {
	name, v, err := a.keySet(c)
	if err != nil {
		return reply{}, err
	}
	if err := a.intendKeySet(c, "test", name, v, ""); err != nil {
		return reply{}, err
	}
	return reply{}, a.KeySets.TestKeySet(c.Context(), name, v)
}

func (a *api) retireKeySet(c *call) (reply, error) {
	name, v, err := a.keySet(c)
	if err != nil {
		return reply{}, err
	}
	if err := a.intendKeySet(c, "retire", name, v, ""); err != nil {
		return reply{}, err
	}
	return reply{}, a.KeySets.Retire(c.Context(), name, v, c.who.Name)
}
