package api

import (
	"errors"
	"net/http"
	"path/filepath"

	"inkan/apdu/gp"
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
	Level   string `json:"Level"`  // protection, A (best) to D
	Origin  string `json:"Origin"` // generated, imported
	Created Millis `json:"Created,omitempty"`
	Retired bool   `json:"Retired"` // no new card gets it
}

// NewKeySet is the body of POST keysets.
type NewKeySet struct {
	Name    string `json:"Name"`
	Version string `json:"Version"`
	Type    string `json:"Type"`
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

func (a *api) createKeySet(c *call) (reply, error) {
	var in NewKeySet
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	name, v, err := parseKeySet(in.Name, in.Version)
	if err != nil {
		return reply{}, err
	}
	if err := a.intendKeySet(c, "create", name, v, in.Type); err != nil {
		return reply{}, err
	}
	set, err := a.KeySets.CreateKeySet(c.Context(), name, v, in.Type)
	if errors.Is(err, token.ErrConflict) {
		return reply{}, &Error{Status: http.StatusConflict, Message: "key set " + in.Name + " has a version " + v.String() + " already", Err: err}
	}
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: set}, nil
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

// Backup says what a backup of the keys has to hold, and of a key file what was
// written.
type Backup struct {
	Kind    string   `json:"Kind"`              // file: the encrypted key file; hsm: the vendor's tools make it
	Keys    []string `json:"Keys"`              // labels that have to be in it
	Token   string   `json:"Token,omitempty"`   // of an HSM: its URI
	Path    string   `json:"Path,omitempty"`    // of a copy that was written
	Checked string   `json:"Checked,omitempty"` // label of the key that was restored from it and used
}

// BackupRequest is the body of POST key-backup but for its passphrase, which
// [EncodeSecret] adds as "passphrase".
type BackupRequest struct {
	Path string `json:"Path"` // absolute, on the node's machine
}

func (a *api) showBackup(c *call) (reply, error) {
	b, err := a.Backups.Backup(c.Context())
	return reply{body: b}, err
}

func (a *api) writeBackup(c *call) (reply, error) {
	var in struct {
		BackupRequest
		Passphrase Text `json:"passphrase"`
	}
	defer func() { in.Passphrase.Wipe() }()
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if !filepath.IsAbs(in.Path) {
		return reply{}, badRequest("%q is not an absolute path", in.Path)
	}
	if in.Passphrase.IsZero() {
		return reply{}, badRequest("a passphrase is needed")
	}
	if err := a.intend(c, map[string]string{"path": in.Path}); err != nil {
		return reply{}, err
	}
	b, err := a.Backups.WriteBackup(c.Context(), in.Path, in.Passphrase.Secret)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: b}, nil
}
