package sealing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tps/seal"
	"inkan/tps/store"
)

// anchor is where the generations are kept; keys are those of the write that it is
// for.
func (s *Folder) anchor(keys ...seal.WrappingKey) seal.Anchor {
	switch s.boot.Anchor {
	case seal.AnchorHSM:
		return vaultAnchor{s.openVaults()}
	case seal.AnchorDB:
		return databaseAnchor{s}
	case seal.AnchorFile:
		return seal.NewFileAnchor(s.folder, openKeys{s}, func(ctx context.Context) ([]seal.WrappingKey, error) {
			if len(keys) > 0 {
				return keys, nil
			}
			return s.openKeys(ctx)
		})
	}
	return nil
}

// CheckAnchor refuses a site whose old files nobody would notice.
func (s *Folder) CheckAnchor(c config.Config) error { return checkAnchor(s.boot.Anchor, c) }

func checkAnchor(anchor string, c config.Config) error {
	if anchor == seal.AnchorNone && !c.Node.Lab {
		return errors.New("the anchor none is for a lab: an old file that somebody puts back would not be noticed; next: " + changeAnchor)
	}
	return nil
}

// changeAnchor is how a folder gets another anchor.
const changeAnchor = "inkan config recover --anchor hsm, or db, or file"

// vaultAnchor keeps generations in every HSM or key file that files are written for.
type vaultAnchor struct{ vaults []Vault }

func anchorLabel(i seal.InstanceID, r seal.Role) hsm.CounterLabel {
	return hsm.CounterLabel("tms:sealgen:" + i.Short() + ":" + string(r))
}

// Generation is the highest that one of them knows.
func (a vaultAnchor) Generation(ctx context.Context, i seal.InstanceID, r seal.Role) (highest uint64, err error) {
	if len(a.vaults) == 0 {
		return 0, &seal.Error{Code: seal.HSMUnreachable, Cause: errors.New("the generations are in the HSM, which does not open")}
	}
	for _, v := range a.vaults {
		g, err := v.Counter(ctx, anchorLabel(i, r))
		if err != nil {
			return 0, coded(err)
		}
		highest = max(highest, g)
	}
	return highest, nil
}

func (a vaultAnchor) SetGeneration(ctx context.Context, i seal.InstanceID, r seal.Role, g uint64) error {
	for _, v := range a.vaults {
		if err := v.SetCounter(ctx, anchorLabel(i, r), g); err != nil {
			return coded(err)
		}
	}
	return nil
}

func (a vaultAnchor) Forget(ctx context.Context, i seal.InstanceID, r seal.Role) error {
	for _, v := range a.vaults {
		if err := v.DeleteCounter(ctx, anchorLabel(i, r)); err != nil {
			return coded(err)
		}
	}
	return nil
}

// databaseAnchor keeps generations in the token database, which the configuration
// names: it is opened for that before its generation is known.
type databaseAnchor struct{ s *Folder }

func (a databaseAnchor) Generation(ctx context.Context, i seal.InstanceID, r seal.Role) (g uint64, err error) {
	err = a.with(ctx, func(db *store.DB) error {
		g, err = db.SealGeneration(ctx, i.String(), string(r))
		return err
	})
	return g, err
}

func (a databaseAnchor) SetGeneration(ctx context.Context, i seal.InstanceID, r seal.Role, g uint64) error {
	return a.with(ctx, func(db *store.DB) error { return db.SetSealGeneration(ctx, i.String(), string(r), g) })
}

func (a databaseAnchor) Forget(ctx context.Context, i seal.InstanceID, r seal.Role) error {
	if _, err := a.s.records(ctx); err != nil { // what does not open is removed all the same; the row is for nobody else
		a.s.o.Log.WarnContext(ctx, "the generation stays in the database", slog.String("role", string(r)), slog.Any("err", err))
		return nil
	}
	return a.with(ctx, func(db *store.DB) error { return db.ForgetSealGeneration(ctx, i.String(), string(r)) })
}

// with runs do with the database that the configuration names now.
func (a databaseAnchor) with(ctx context.Context, do func(*store.DB) error) error {
	c, err := a.s.records(ctx)
	if err != nil {
		return err
	}
	db, err := OpenDatabase(ctx, c.Database, func(name string) string { return Within(a.s.folder, name) })
	if err == nil {
		err = errors.Join(do(db), db.Close())
	}
	if err != nil {
		return &seal.Error{Code: seal.DependencyMissing, Cause: fmt.Errorf("reading the generations in the database: %w", err), Hint: "make the token database reachable, then start again; where it has moved, inkan config recover --anchor file, then change [database]"}
	}
	return nil
}

// records is the configuration that says where the records are: the one that counts,
// or where it does not open any more the last that did, or the one before.
func (s *Folder) records(ctx context.Context) (config.Config, error) {
	if s.boot.Phase != seal.Sealed {
		return config.Load(Within(s.folder, ConfigFile))
	}
	c, err := s.peek(ctx)
	if err == nil {
		return c, nil
	}
	if c, ok := s.seen.get(); ok {
		return c, nil
	}
	prev, prevErr := s.reader().Peek(ctx, RoleConfig, RoleConfig.Prev())
	if prevErr != nil {
		return c, err
	}
	defer prev.Wipe()
	s.o.Log.WarnContext(ctx, "the configuration does not open, the one before says where the database is", slog.Any("err", err))
	return decodeSealed(prev.Bytes())
}

// carryGenerations takes the generations of an anchor db to the database of the
// configuration that is about to be written. One that does not answer is refused: the
// configuration could not be opened again to be mended.
func (s *Folder) carryGenerations(ctx context.Context, next config.Config) error {
	if s.boot.Anchor != seal.AnchorDB {
		return nil
	}
	now, err := s.records(ctx)
	if err != nil || now.Database == next.Database {
		return err
	}
	path := func(name string) string { return Within(s.folder, name) }
	db, err := OpenDatabase(ctx, next.Database, path)
	if err != nil {
		return fmt.Errorf("the new configuration's database, which keeps the generations, does not open: %w", err)
	}
	for _, r := range s.boot.Roles {
		g, err := s.anchor().Generation(ctx, s.boot.Instance, r)
		if err == nil && g > 0 {
			err = db.SetSealGeneration(ctx, s.boot.Instance.String(), string(r), g)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("taking the generations to the new database: %w", err), db.Close())
		}
	}
	return db.Close()
}
