package softkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey/internal/floor"
)

// Params are the cost of turning the passphrase into a key (Argon2id, RFC 9106).
type Params struct {
	Time      uint32 // passes
	MemoryKiB uint32
	Threads   uint8
}

// DefaultParams is 3 passes over 256 MiB with 4 threads, about a second.
func DefaultParams() Params { return Params{Time: 3, MemoryKiB: 256 << 10, Threads: 4} }

// FloorParams is the least that Create and Open accept: 2 passes over 19 MiB.
func FloorParams() Params { return Params{Time: 2, MemoryKiB: 19 << 10, Threads: 1} }

// least is what Create and Open accept in this process: FloorParams, but in tests of
// other packages.
func least() Params {
	if floor.Lowered() {
		return Params{Time: 1, MemoryKiB: 8, Threads: 1}
	}
	return FloorParams()
}

// ceiling bounds what a foreign file can make us spend.
var ceiling = Params{Time: 64, MemoryKiB: 4 << 20, Threads: 64}

func (p Params) check() error {
	if l := least(); p.Time < l.Time || p.MemoryKiB < l.MemoryKiB || p.Threads < l.Threads {
		return fmt.Errorf("passphrase cost t=%d m=%d KiB p=%d is below the floor of t=%d m=%d KiB p=%d",
			p.Time, p.MemoryKiB, p.Threads, l.Time, l.MemoryKiB, l.Threads)
	}
	if p.Time > ceiling.Time || p.MemoryKiB > ceiling.MemoryKiB || p.Threads > ceiling.Threads {
		return fmt.Errorf("passphrase cost t=%d m=%d KiB p=%d is absurd", p.Time, p.MemoryKiB, p.Threads)
	}
	return nil
}

// header is the first line of the file.
type header struct {
	Format    string `json:"format"`
	Version   int    `json:"v"`
	KDF       string `json:"kdf"`
	Time      uint32 `json:"t"`
	MemoryKiB uint32 `json:"m_kib"`
	Threads   uint8  `json:"p"`
	Salt      []byte `json:"salt"`
	Check     []byte `json:"check"`
	Gen       uint64 `json:"gen"`
}

func newHeader(passphrase secret.Secret, p Params) (header, secret.Secret, error) {
	if passphrase.IsZero() {
		return header{}, secret.Secret{}, errors.New("empty passphrase")
	}
	if err := p.check(); err != nil {
		return header{}, secret.Secret{}, err
	}
	h := header{Format: formatName, Version: formatVersion, KDF: "argon2id",
		Time: p.Time, MemoryKiB: p.MemoryKiB, Threads: p.Threads, Salt: make([]byte, 16)}
	rand.Read(h.Salt)
	kek := h.derive(passphrase)
	h.Check = checkValue(kek)
	return h, kek, nil
}

func (h header) params() Params {
	return Params{Time: h.Time, MemoryKiB: h.MemoryKiB, Threads: h.Threads}
}

func (h header) derive(passphrase secret.Secret) secret.Secret {
	return secret.New(argon2.IDKey(passphrase.Bytes(), h.Salt, h.Time, h.MemoryKiB, h.Threads, 32))
}

// checkValue tells a wrong passphrase from a damaged file.
func checkValue(kek secret.Secret) []byte {
	m := hmac.New(sha256.New, kek.Bytes())
	m.Write([]byte("tms-keystore-check"))
	return m.Sum(nil)[:16]
}

// parseHeader reads the first line and bounds it.
func parseHeader(lines [][]byte) (header, error) {
	var h header
	if len(lines) == 0 {
		return h, errors.New("key file is empty; restore it from the backup")
	}
	if err := strict(lines[0], &h); err != nil || h.Format != formatName {
		return h, errors.New("not a key file")
	}
	if h.Version != formatVersion || h.KDF != "argon2id" {
		return h, fmt.Errorf("key file format %d with %q: this version reads format %d with argon2id", h.Version, h.KDF, formatVersion)
	}
	if len(h.Salt) < 8 || len(h.Salt) > 64 {
		return h, errDamaged
	}
	return h, h.params().check()
}

// unlock turns the passphrase into the key-encryption key.
func (h header) unlock(passphrase secret.Secret) (secret.Secret, error) {
	kek := h.derive(passphrase)
	if !hmac.Equal(checkValue(kek), h.Check) {
		kek.Wipe()
		return secret.Secret{}, hsm.ErrPIN
	}
	return kek, nil
}
