package sealing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tps/seal"
)

// RecoverPlan says how files are opened that do not open as they should.
type RecoverPlan struct {
	// Identity is an age identity, Passphrase a recovery passphrase; without them only
	// the HSM key opens.
	Identity, Passphrase secret.Secret
	// URI and PINSource name another token; empty: the one of seal.toml.
	URI, PINSource string
	// FromPrev goes back one generation where a file is missing or damaged.
	FromPrev bool
	// Accept is a generation of Role that lies behind the one that was written last.
	Role   seal.Role
	Accept uint64
	// Anchor is where generations are kept from now on; empty: where they are. The old
	// anchor is not asked: it may be lost.
	Anchor string
}

func (p RecoverPlan) openers() ([]seal.Opener, error) {
	var out []seal.Opener
	if !p.Identity.IsZero() {
		o, err := seal.WithIdentity(p.Identity)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	if !p.Passphrase.IsZero() {
		out = append(out, seal.WithPassphrase(p.Passphrase))
	}
	return out, nil
}

// Recover opens every file of a folder by its recovery slot, or an older generation
// of it by the HSM key, and seals all again under a key of the token, which is made
// where it is missing. It replaces a lost HSM.
func Recover(ctx context.Context, folder string, p RecoverPlan, o Options) (SealReport, error) {
	openers, err := p.openers()
	if err != nil {
		return SealReport{}, err
	}
	boot, lock, err := LockPrepared(folder)
	if err != nil {
		return SealReport{}, err
	}
	defer lock.Release()
	if boot.Phase != seal.Sealed {
		return SealReport{}, ErrNotSealed
	}
	o = o.Complete()
	if len(boot.Slots) > 0 {
		o.Log.WarnContext(ctx, "the further key slots are dropped: add them again with inkan config reseal --add-slot", slog.Any("slots", boot.Slots))
	}
	boot.Slots = nil
	if p.Anchor != "" {
		boot.Anchor = p.Anchor
	}
	if p.URI != "" {
		boot.SetFirst(seal.Place{URI: p.URI, PINSource: boot.PINSource, Key: keyOr(boot)})
	}
	if p.PINSource != "" {
		boot.PINSource = p.PINSource
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return SealReport{}, err
	}
	defer s.Close()
	s.more = openers
	c, err := s.peek(ctx)
	if err != nil && !p.FromPrev {
		return SealReport{}, err
	}
	if err != nil {
		c = config.Default()
	}
	if err := checkAnchor(p.Anchor, c); err != nil {
		return SealReport{}, err
	}
	var report SealReport
	fields := map[string]string{"uri": boot.URI, "anchor": boot.Anchor, "from_prev": fmt.Sprint(p.FromPrev)}
	if p.Accept > 0 {
		fields["accepted"] = fmt.Sprintf("%s generation %d", p.Role, p.Accept)
	}
	err = audited(ctx, folder, c, eventRecover, fields, func() error {
		report, err = s.recoverAll(ctx, p)
		return err
	})
	return report, err
}

func (s *Folder) recoverAll(ctx context.Context, p RecoverPlan) (SealReport, error) {
	key, err := s.usableKey(ctx)
	if err != nil {
		return SealReport{}, err
	}
	report := s.report(ctx, key)
	for _, r := range s.boot.Roles {
		g, err := s.recoverRole(ctx, r, p, key)
		if err != nil {
			return report, err
		}
		if g > 0 {
			report.Generations[string(r)] = g
		}
	}
	s.o.Step("", "bootstrap")
	return report, s.boot.Write(s.folder)
}

// usableKey is the key of seal.toml where it is in the token and opens the files;
// else the next one, made now.
func (s *Folder) usableKey(ctx context.Context) (seal.WrappingKey, error) {
	key, err := s.key(ctx)
	if err == nil {
		only := seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: []seal.Opener{seal.With(s.first().keys())}})
		var o *seal.Opened
		if o, err = only.Peek(ctx, RoleConfig, RoleConfig.File()); err == nil {
			o.Wipe()
			return key, nil
		}
	}
	if c := seal.CodeOf(err); c != seal.KeyMissing && c != seal.WrongKey {
		if key != nil {
			return key, nil // the file is the trouble, not the key
		}
		return nil, err
	}
	return s.nextKey(ctx)
}

// nextKey makes the next key that the token has not. What only the lost one could
// check goes with it.
func (s *Folder) nextKey(ctx context.Context) (seal.WrappingKey, error) {
	if s.boot.Anchor == seal.AnchorFile {
		if err := seal.RemoveAnchor(s.folder); err != nil {
			return nil, err
		}
	}
	b := s.boxes[0]
	if b.cred != nil {
		return b.cred, nil
	}
	id, err := b.id()
	if err != nil {
		return nil, err
	}
	for id.Version < 255 {
		id.Version++
		b.at.Key = id.Label()
		s.boot.SetFirst(b.at)
		key, _, err := b.makeKey(ctx, false)
		if !errors.Is(err, hsm.ErrExists) {
			return key, err
		}
	}
	return nil, errors.New("the instance has had 255 keys")
}

func (s *Folder) recoverRole(ctx context.Context, r seal.Role, p RecoverPlan, key seal.WrappingKey) (uint64, error) {
	sealer, err := s.writer(r, key)
	if err != nil {
		return 0, err
	}
	how := seal.Recovery{}
	if p.Accept > 0 && r == p.Role {
		how.Generation = p.Accept
	}
	g, err := sealer.Recover(ctx, r, how)
	if p.FromPrev && (errors.Is(err, seal.SealedMissing) || errors.Is(err, seal.Damaged) || errors.Is(err, seal.Tampered)) {
		how.FromPrev = true
		g, err = sealer.Recover(ctx, r, how)
	}
	if err != nil && roles[r].remade && recoverable(err) {
		return 0, sealer.Drop(ctx, r) // it has no recovery slot: the node makes another one
	}
	return g, err
}

// keyOr is the label of the key of a token that takes over.
func keyOr(b seal.Bootstrap) string {
	if b.Key != "" {
		return b.Key
	}
	return hsm.WrapperID{Instance: [4]byte(b.Instance[:4]), Version: 1}.Label()
}

// recoverable reports whether a file does not open, and nothing else is wrong.
func recoverable(err error) bool {
	switch seal.CodeOf(err) {
	case seal.SealedMissing, seal.KeyMissing, seal.WrongKey, seal.Damaged, seal.Tampered:
		return true
	}
	return false
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
