package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"filippo.io/age"
	"golang.org/x/crypto/argon2"

	"inkan/apdu/secret"
)

// NewRecoveryKey makes an age identity (X25519 and ML-KEM-768) and its recipient.
// The identity opens every file that is protected for the recipient: it is shown
// once and kept on paper.
func NewRecoveryKey() (identity secret.Secret, recipient string, err error) {
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		return secret.Secret{}, "", fmt.Errorf("making a recovery key: %w", err)
	}
	return secret.New([]byte(i.String())), i.Recipient().String(), nil
}

// ForAge protects for an age recipient. Writing needs no secret of it.
func ForAge(recipient string) (Protector, error) {
	rs, err := age.ParseRecipients(strings.NewReader(recipient))
	if err != nil || len(rs) != 1 {
		return nil, errors.New("the recovery recipient is no age recipient (age1…)")
	}
	return forAge{recipient: recipient, to: rs[0]}, nil
}

type forAge struct {
	recipient string
	to        age.Recipient
}

// ShortRecipient is how a slot names its recipient.
func ShortRecipient(r string) string {
	if len(r) > 24 {
		return r[:16] + "…" + r[len(r)-5:]
	}
	return r
}

func (a forAge) protect(_ context.Context, _ *Header, n uint8, dataKey secret.Secret) (Slot, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, a.to)
	if err != nil {
		return Slot{}, fmt.Errorf("protecting for the recovery key: %w", err)
	}
	_, err = w.Write(dataKey.Bytes())
	if err := errors.Join(err, w.Close()); err != nil {
		return Slot{}, fmt.Errorf("protecting for the recovery key: %w", err)
	}
	return Slot{Number: n, Kind: KindAge, Mechanism: MechanismAge, Label: ShortRecipient(a.recipient), wrapped: out.Bytes()}, nil
}

// verify cannot open what only the recovery key opens.
func (forAge) verify(context.Context, *File, Slot, secret.Secret) error { return nil }

// WithIdentity opens the slots of an age identity; the text of an identity file
// with comments does too.
func WithIdentity(identity secret.Secret) (Opener, error) {
	is, err := age.ParseIdentities(bytes.NewReader(identity.Bytes()))
	if err != nil || len(is) == 0 {
		return nil, errors.New("that is no age identity (AGE-SECRET-KEY-…)")
	}
	return withIdentity{is}, nil
}

type withIdentity struct{ identities []age.Identity }

func (a withIdentity) open(_ context.Context, f *File, s Slot) (secret.Secret, bool, error) {
	if s.Kind != KindAge || s.Mechanism != MechanismAge {
		return secret.Secret{}, false, nil
	}
	r, err := age.Decrypt(bytes.NewReader(s.wrapped), a.identities...)
	if err != nil {
		return secret.Secret{}, true, refuse(WrongKey, f.Role, "the recovery key does not open slot %d (%s)", s.Number, s.Label)
	}
	b := make([]byte, dataKeySize+1)
	n, err := io.ReadFull(r, b)
	if n != dataKeySize || !errors.Is(err, io.ErrUnexpectedEOF) {
		return secret.Secret{}, true, refuse(Tampered, f.Role, "slot %d holds no data key", s.Number)
	}
	return secret.New(b[:dataKeySize:dataKeySize]), true, nil
}

// Cost of a passphrase (Argon2id, RFC 9106).
type Cost struct {
	Time      uint32
	MemoryKiB uint32
	Threads   uint8
}

// DefaultCost is 3 passes over 256 MiB with 4 threads, about a second.
func DefaultCost() Cost { return Cost{3, 256 << 10, 4} }

// FloorCost is the least that is accepted.
func FloorCost() Cost { return Cost{2, 19 << 10, 1} }

// kdfSize: salt, t, m, p.
const kdfSize = 16 + 4 + 4 + 1

func (c Cost) encode(salt []byte) []byte {
	b := binary.BigEndian.AppendUint32(bytes.Clone(salt), c.Time)
	return append(binary.BigEndian.AppendUint32(b, c.MemoryKiB), c.Threads)
}

// parseCost reads and bounds what a foreign file can make us spend.
func parseCost(b []byte) (salt []byte, c Cost, err error) {
	if len(b) != kdfSize {
		return nil, c, errors.New("key slot without passphrase parameters")
	}
	c = Cost{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:]), b[24]}
	floor := FloorCost()
	if c.Time < floor.Time || c.MemoryKiB < floor.MemoryKiB || c.Threads < floor.Threads ||
		c.Time > 64 || c.MemoryKiB > 4<<20 || c.Threads > 64 {
		return nil, c, fmt.Errorf("passphrase cost t=%d m=%d KiB p=%d is out of bounds", c.Time, c.MemoryKiB, c.Threads)
	}
	return b[:16], c, nil
}

// MinPassphrase is the shortest recovery passphrase, in bytes: whoever has the
// file tries at leisure.
const MinPassphrase = 12

// ForPassphrase protects with a recovery passphrase, which every write needs
// again; [ForAge] does not. nil cost is the default.
func ForPassphrase(passphrase secret.Secret, cost *Cost) (Protector, error) {
	if passphrase.Len() < MinPassphrase {
		return nil, fmt.Errorf("a recovery passphrase needs %d bytes at least", MinPassphrase)
	}
	c := DefaultCost()
	if cost != nil {
		c = *cost
	}
	if _, _, err := parseCost(c.encode(make([]byte, 16))); err != nil {
		return nil, err
	}
	return &byPassphrase{passphrase: passphrase, cost: c, salt: secret.Random(16).Bytes()}, nil
}

// WithPassphrase opens the slots of a recovery passphrase.
func WithPassphrase(passphrase secret.Secret) Opener { return &byPassphrase{passphrase: passphrase} }

// byPassphrase derives its key once per salt: that takes a second.
type byPassphrase struct {
	passphrase secret.Secret
	cost       Cost
	salt       []byte // of what it protects

	mu      sync.Mutex
	derived string // salt and cost of cipher
	cipher  cipher.AEAD
}

func (p *byPassphrase) aead(salt []byte, c Cost) (cipher.AEAD, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := string(c.encode(salt))
	if p.derived == of {
		return p.cipher, nil
	}
	key := argon2.IDKey(p.passphrase.Bytes(), salt, c.Time, c.MemoryKiB, c.Threads, 32)
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	p.cipher, err = cipher.NewGCM(b)
	p.derived = of
	return p.cipher, err
}

func (p *byPassphrase) protect(_ context.Context, h *Header, n uint8, dataKey secret.Secret) (Slot, error) {
	nonce := secret.Random(12).Bytes()
	aead, err := p.aead(p.salt, p.cost)
	if err != nil {
		return Slot{}, err
	}
	return Slot{Number: n, Kind: KindPassphrase, Mechanism: MechanismArgon2id, nonce: nonce, kdf: p.cost.encode(p.salt),
		wrapped: aead.Seal(nil, nonce, dataKey.Bytes(), h.binding(n))}, nil
}

func (p *byPassphrase) open(_ context.Context, f *File, s Slot) (secret.Secret, bool, error) {
	if s.Kind != KindPassphrase || s.Mechanism != MechanismArgon2id {
		return secret.Secret{}, false, nil
	}
	salt, cost, err := parseCost(s.kdf)
	if err != nil || len(s.nonce) != 12 {
		return secret.Secret{}, true, invalid(f.Role, "key slot %d: parameters of the passphrase", s.Number)
	}
	aead, err := p.aead(salt, cost)
	if err != nil {
		return secret.Secret{}, true, err
	}
	b, err := aead.Open(nil, s.nonce, s.wrapped, f.binding(s.Number))
	if err != nil {
		return secret.Secret{}, true, refuse(WrongKey, f.Role, "the recovery passphrase does not open slot %d", s.Number)
	}
	return secret.New(b), true, nil
}

func (p *byPassphrase) verify(ctx context.Context, f *File, s Slot, dataKey secret.Secret) error {
	got, _, err := p.open(ctx, f, s)
	if err != nil {
		return err
	}
	defer got.Wipe()
	if !got.Equal(dataKey) {
		return refuse(WrongKey, f.Role, "slot %d does not give back what it was given", s.Number)
	}
	return nil
}
