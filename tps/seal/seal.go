// Package seal keeps configuration files encrypted under a key that an HSM holds:
// ROLE.sealed in place of ROLE, opened to memory only. It is the file format, the
// order of writes and the refusals of config-sealing.md §8 to §12.
//
// [New] makes a [Sealer] over a folder; [Sealer.Open] and [Sealer.Save] are the
// usual calls. Each write draws a new data key, seals the content with it
// (AES-256-GCM), and wraps it once per key slot: under a [WrappingKey] in the HSM
// or key file, and for recovery to an age recipient or under a passphrase. A file
// of another instance, role or generation, a file put back from yesterday and a
// file with one bit changed are refused, each with a [Code] of its own.
//
// What is written is written beside the old file, opened again through the keys
// as a proof, flushed and renamed: a cut at any moment leaves the old content or
// the new one. The old file stays as ROLE.sealed.prev for one generation.
//
// The package knows no HSM: whoever joins it to one hands in [WrappingKey],
// [Keys] and [Anchor]. TPMs are reached as systemd reaches them, through credentials
// ([NewCredentialKey]). A Sealer is safe for concurrent use, in one process and between processes.
package seal

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"inkan/apdu/secret"
)

// Role is the name of a plaintext file: inkan.toml, passphrase. 1 to 64 of a-z,
// 0-9, dot, underscore and hyphen.
type Role string

var rolePattern = regexp.MustCompile(`^[a-z0-9._-]{1,64}$`)

// Suffixes of sealed files.
const (
	Suffix     = ".sealed"
	PrevSuffix = ".sealed.prev"
)

// Check reports whether a role may have this name.
func (r Role) Check() error {
	if !rolePattern.MatchString(string(r)) || strings.HasPrefix(string(r), ".") {
		return fmt.Errorf("%q is no name of a sealed file", string(r))
	}
	return nil
}

// File is the name of the sealed file.
func (r Role) File() string { return string(r) + Suffix }

// Prev is the name of the generation before.
func (r Role) Prev() string { return string(r) + PrevSuffix }

// InstanceID names one server instance; each has a key of its own.
type InstanceID [16]byte

// NewInstance draws an instance id.
func NewInstance() InstanceID {
	return InstanceID(secret.Random(16).Bytes())
}

// String is 32 upper-case hexadecimal digits.
func (i InstanceID) String() string { return strings.ToUpper(hex.EncodeToString(i[:])) }

// Short is the first eight digits in lower case, as labels have them.
func (i InstanceID) Short() string { return hex.EncodeToString(i[:4]) }

// MarshalText implements encoding.TextMarshaler.
func (i InstanceID) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *InstanceID) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(i) {
		return fmt.Errorf("instance %q is not 32 hexadecimal digits", b)
	}
	*i = InstanceID(raw)
	return nil
}

// Opened is the content of a sealed file in memory. Its bytes belong to whoever
// opened it, who wipes them.
type Opened struct {
	content secret.Secret
	file    *File
	slot    Slot
}

// Bytes is the plaintext. It is shared, not copied.
func (o *Opened) Bytes() []byte { return o.content.Bytes() }

// Generation is which write of the role this is, from 1.
func (o *Opened) Generation() uint64 { return o.file.Generation }

// SealedAt is when it was written.
func (o *Opened) SealedAt() time.Time { return o.file.SealedAt }

// Slot is the key slot that opened it.
func (o *Opened) Slot() Slot { return o.slot }

func (o *Opened) expired(now time.Time) bool {
	return !o.file.NotAfter.IsZero() && now.After(o.file.NotAfter)
}

// Wipe overwrites the plaintext.
func (o *Opened) Wipe() { o.content.Wipe() }

// String names the file and shows nothing of it.
func (o *Opened) String() string {
	return fmt.Sprintf("%s generation %d [redacted]", o.file.Role, o.file.Generation)
}
