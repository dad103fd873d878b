// Package local is the token key service in this process: it answers
// tks.Service over an hsm.Vault.
//
// [New] checks the vault with known answers and returns the [Service]; the
// administrative calls (Create, Import, KeySets, TestKeySet, Retire, Release) are
// methods of it. A key set version is the master key in the vault with that
// label; the key set "factory" of published test keys is built in.
//
// Every request that carries a card's proof verifies the card cryptogram first,
// in constant time. A key changeover that starts from a published or
// undiversified key set is granted once per KDD; the [Ledger] remembers.
//
// Supported: SCP01, SCP02 with three keys and explicit initiation, SCP03 with S8
// and S16, every diversification of tks/kdf, and the secrets of PIV applets
// (CardSecret) out of key sets made for them. A Service is safe for concurrent use.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Config is what a Service is made of. Vault and Ledger are required.
type Config struct {
	Vault  hsm.Vault
	Ledger Ledger
	// KeySets keeps which versions are retired. nil: none is, and none can be.
	KeySets Retirements
	// Audit takes every request before its answer is handed out. nil: no record.
	Audit AuditFunc
	// Peer names the caller of a request, for limits and audit. nil: "local".
	Peer func(context.Context) string
	// Limits bounds requests. The zero value does not.
	Limits Limits
	// MinimumProtection makes New and CreateKeySet fail where a key set would be
	// at a worse level. Zero: any level.
	MinimumProtection hsm.Level
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Log is for what an operator should see at start; nil: discarded.
	Log *slog.Logger
}

// Retirements is the database's knowledge of key set versions that no new card
// gets. The keys themselves stay in the HSM.
type Retirements interface {
	Retired(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) (bool, error)
	Retire(ctx context.Context, set tks.KeySetName, v gp.KeyVersion, by string) error
}

// Service implements tks.Service.
type Service struct {
	cfg    Config
	limits *limiter

	mu      sync.RWMutex
	masters []hsm.Master      // as last seen; read again where a version is missing
	sets    map[setKey]keySet // what was found in masters
}

var _ tks.Service = (*Service)(nil)

// selfTestTimeout bounds New: an HSM behind a network may be slow, not silent.
const selfTestTimeout = time.Minute

// New runs the self test of the vault and reads its key sets. It fails where an
// answer is wrong, where the HSM lacks a mechanism that a key set needs, or where
// a key set is below MinimumProtection.
func New(cfg Config) (*Service, error) {
	if cfg.Vault == nil || cfg.Ledger == nil {
		return nil, errors.New("starting key service: vault and ledger are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Peer == nil {
		cfg.Peer = func(context.Context) string { return "local" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, limits: newLimiter(cfg.Limits, cfg.Now)}
	ctx, cancel := context.WithTimeout(context.Background(), selfTestTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("starting key service: %w", err)
	}
	return s, nil
}

func (s *Service) start(ctx context.Context) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES, kdf.HMAC} {
		if err := s.selfTest(ctx, c); err != nil {
			return err
		}
	}
	var below []error
	worst := hsm.LevelA
	for _, m := range s.masters {
		s.cfg.Log.InfoContext(ctx, "key set", slog.String("set", string(m.Set)), slog.Any("key_version", m.Version),
			slog.Any("type", m.Kind), slog.Any("kdf", m.KDF), slog.Any("kcv", m.KCV), slog.Any("level", m.Level), slog.String("why", m.Why))
		if err := s.protected(m.Protection); err != nil {
			below, worst = append(below, fmt.Errorf("key set %s version %v: %w", m.Set, m.Version, err)), max(worst, m.Level)
		}
	}
	if len(below) > 0 {
		return fmt.Errorf("%w\n%s", errors.Join(below...), remedy(worst))
	}
	return nil
}

// selfTest lets a missing mechanism pass where no key set needs the cipher.
func (s *Service) selfTest(ctx context.Context, c kdf.Cipher) error {
	err := hsm.SelfTest(ctx, s.cfg.Vault, c)
	var missing *hsm.MechanismError
	if err == nil || !errors.As(err, &missing) {
		return err
	}
	for _, m := range s.masters {
		if slices.Contains(ciphers(m), c) {
			return fmt.Errorf("key set %s version %v: %w", m.Set, m.Version, err)
		}
	}
	s.cfg.Log.WarnContext(ctx, "HSM lacks a mechanism", slog.Any("cipher", c), slog.Any("err", err))
	return nil
}

// ErrProtection means that a key set would be, or is, at a worse level than
// Config.MinimumProtection. The text says at which, why, and what can be done.
var ErrProtection = errors.New("protection is below the minimum")

func (s *Service) protected(p hsm.Protection) error {
	if s.cfg.MinimumProtection == 0 || p.Level.Reaches(s.cfg.MinimumProtection) {
		return nil
	}
	return fmt.Errorf("%w: level %v is in force, %v is demanded: %s", ErrProtection, p.Level, s.cfg.MinimumProtection, p.Why)
}

// remedy says what can be done about level l.
func remedy(l hsm.Level) string {
	return fmt.Sprintf("Use keys that the HSM protects better (another type or diversification, another HSM), or accept level %v: minimum_protection = \"%v\" in [tks]", l, l)
}

// Random implements tks.Service.
func (s *Service) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > 1024 {
		return nil, fmt.Errorf("drawing %d random bytes: want 1 to 1024", n)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := s.cfg.Vault.Random(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("drawing random bytes: %w", err)
	}
	return b, nil
}

// DeriveSession implements tks.Service.
func (s *Service) DeriveSession(ctx context.Context, req tks.SessionRequest) (tks.SessionReply, error) {
	reply, err := serve(ctx, s, opSession, req.CardProof, func(ctx context.Context, c *card) (tks.SessionReply, error) {
		keys, err := c.session.all(ctx)
		if err != nil {
			wipe(keys)
		}
		return keys, err
	})
	if err != nil {
		wipe(reply)
		return tks.SessionReply{}, fmt.Errorf("deriving session keys: %w", err)
	}
	return reply, nil
}

func wipe(r tks.SessionReply) {
	r.ENC.Wipe()
	r.MAC.Wipe()
	r.RMAC.Wipe()
}

// Encrypt implements tks.Service.
func (s *Service) Encrypt(ctx context.Context, req tks.EncryptRequest) (tks.EncryptReply, error) {
	if n := req.Data.Len(); n != 16 && n != 32 {
		return tks.EncryptReply{}, fmt.Errorf("encrypting for the card: %d bytes, want 16 or 32", n)
	}
	reply, err := serve(ctx, s, opEncrypt, req.CardProof, func(ctx context.Context, c *card) (reply tks.EncryptReply, err error) {
		reply.Data, err = c.session.encrypt(ctx, req.Data.Bytes())
		return reply, err
	})
	if err != nil {
		return tks.EncryptReply{}, fmt.Errorf("encrypting for the card: %w", err)
	}
	return reply, nil
}
