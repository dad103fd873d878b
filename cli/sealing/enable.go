package sealing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tps/audit"
	"inkan/tps/seal"
)

// SealPlan says how a folder is to be sealed.
type SealPlan struct {
	URI        string // pkcs11: URI of the token, without pin-source; empty: the folder's key file seals
	Credential string // name of a systemd credential that seals, instead of both
	PINSource  string // prompt, file:PATH, cred:NAME, fd:N
	// KeyLabel is tms:seal:IIIIIIII:vNN; empty: that of a new instance, v01. A key that
	// is there is used only with UseExisting.
	KeyLabel    string
	UseExisting bool
	Recipient   string // age recipient, passphrase, or empty: no recovery
	// Anchor keeps the generations: hsm, db, file or, in a lab, none; empty: hsm, with a
	// credential db.
	Anchor string
	Roles  []seal.Role
}

// SealReport says what was done.
type SealReport struct {
	Instance    string            `json:"Instance"`
	Key         string            `json:"Key"`
	KCV         string            `json:"KCV,omitempty"`
	Token       string            `json:"Token,omitempty"`
	Mechanism   string            `json:"Mechanism"`
	Generations map[string]uint64 `json:"Generations"` // by role
}

// Events of the audit record.
const (
	eventSeal    = "CONFIG_SEAL"
	eventSave    = "CONFIG_SAVE"
	eventReseal  = "CONFIG_RESEAL"
	eventRotate  = "CONFIG_ROTATE_KEY"
	eventRetire  = "CONFIG_RETIRE_KEY"
	eventRecover = "CONFIG_RECOVER"
	eventExport  = "CONFIG_EXPORT"
	eventDisable = "CONFIG_DISABLE"
	eventAdopt   = "CONFIG_ADOPT"
	eventDestroy = "CONFIG_DESTROY"
)

// audited runs do between two records of the folder's audit log. No node may have
// the folder open.
func audited(ctx context.Context, folder string, c config.Config, event string, fields map[string]string, do func() error) (err error) {
	dir := Within(folder, c.Audit.Folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return coded(fmt.Errorf("opening audit log: %w", err))
	}
	log, err := audit.OpenFile(dir)
	if err != nil {
		return coded(err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	e := audit.Event{Name: event, Outcome: audit.Attempt, Subject: LocalName(ThisUser()), Fields: maps.Clone(fields)}
	if err := log.Record(ctx, e); err != nil {
		return coded(err)
	}
	err = do()
	e.Outcome, e.Fields = audit.Success, maps.Clone(fields)
	if err != nil {
		if e.Fields == nil {
			e.Fields = map[string]string{}
		}
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	return errors.Join(err, coded(log.Record(context.WithoutCancel(ctx), e)))
}

// Seal seals a folder that no node has open. Until the last file is sealed and was
// opened again the plain files count; what fails before leaves the folder plain.
func Seal(ctx context.Context, folder string, p SealPlan, o Options) (SealReport, error) {
	o = o.Complete()
	boot, lock, err := LockPrepared(folder)
	if err != nil {
		return SealReport{}, err
	}
	defer lock.Release()
	if boot.Phase == seal.Sealed {
		return SealReport{}, errors.New("the folder is sealed already: inkan config status shows how")
	}
	c, err := config.Load(Within(folder, ConfigFile))
	if err != nil {
		return SealReport{}, err
	}
	if err := checkAnchor(p.Anchor, c); err != nil {
		return SealReport{}, err
	}
	var report SealReport
	err = audited(ctx, folder, c, eventSeal, map[string]string{"uri": p.URI, "credential": p.Credential, "anchor": p.Anchor, "recovery": seal.ShortRecipient(p.Recipient)}, func() error {
		report, err = p.run(ctx, folder, boot, o)
		return err
	})
	return report, err
}

// bootstrap is seal.toml of the plan; an interrupted attempt keeps its instance.
func (p SealPlan) bootstrap(before seal.Bootstrap, roles []seal.Role) (seal.Bootstrap, error) {
	b := seal.Bootstrap{Instance: before.Instance, Phase: seal.Enabling, URI: p.URI, PINSource: p.PINSource, Key: p.KeyLabel,
		Recipient: p.Recipient, Anchor: p.Anchor, Roles: roles}
	if b.Instance == (seal.InstanceID{}) {
		b.Instance = seal.NewInstance()
	}
	if p.Credential != "" {
		b.SetFirst(seal.Place{Credential: p.Credential})
		if b.Anchor == "" {
			b.Anchor = seal.AnchorDB
		}
		return b, b.Check()
	}
	if p.URI == "" {
		b.KeyFile = KeyFile
	}
	if b.Anchor == "" {
		b.Anchor = seal.AnchorHSM
	}
	if b.Key == "" {
		b.Key = hsm.WrapperID{Instance: [4]byte(b.Instance[:4]), Version: 1}.Label()
	}
	id, err := hsm.ParseWrapperLabel(b.Key)
	if err != nil {
		return b, err
	}
	copy(b.Instance[:4], id.Instance[:]) // the label names the instance
	return b, b.Check()
}

// roles are those that are to be sealed and may be: a passphrase is not sealed under
// the key file that it opens.
func (p SealPlan) roles(folder string) ([]seal.Role, error) {
	want := p.Roles
	if len(want) == 0 {
		want = Roles()
	}
	if !slices.Contains(want, RoleConfig) {
		return nil, fmt.Errorf("%s has to be among the files to seal", RoleConfig)
	}
	var out []seal.Role
	for _, r := range want {
		kind, known := roles[r]
		if !known {
			return nil, fmt.Errorf("%s is no file that can be sealed: want some of %s", r, Roles())
		}
		if r == RolePassphrase {
			if _, err := os.Stat(Within(folder, kind.file)); p.URI+p.Credential == "" || errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func (p SealPlan) run(ctx context.Context, folder string, before seal.Bootstrap, o Options) (SealReport, error) {
	roles, err := p.roles(folder)
	if err != nil {
		return SealReport{}, err
	}
	boot, err := p.bootstrap(before, roles)
	if err != nil {
		return SealReport{}, err
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return SealReport{}, err
	}
	defer s.Close()
	key, made, err := s.first().makeKey(ctx, before.Phase != "" || p.UseExisting)
	if err != nil {
		return SealReport{}, err
	}
	report, err := s.enable(ctx, key)
	if err != nil {
		return report, errors.Join(err, s.undo(context.WithoutCancel(ctx), made))
	}
	return report, s.clear()
}

// enable seals every role beside its plain file, opens all again, and then makes
// the sealed ones count.
func (s *Folder) enable(ctx context.Context, key seal.WrappingKey) (SealReport, error) {
	report := s.report(ctx, key)
	s.o.Step("", "enabling")
	if err := s.boot.Write(s.folder); err != nil {
		return report, err
	}
	for _, r := range s.boot.Roles {
		g, err := s.sealPlain(ctx, r, key)
		if err != nil {
			return report, err
		}
		if g > 0 {
			report.Generations[string(r)] = g
		}
	}
	s.boot.Phase = seal.Sealed
	s.o.Step("", "sealed")
	return report, s.boot.Write(s.folder)
}

func (s *Folder) report(ctx context.Context, key seal.WrappingKey) SealReport {
	d := key.Describe()
	out := SealReport{Instance: s.boot.Instance.String(), Key: d.Label, Token: d.Token, Generations: map[string]uint64{}}
	if len(d.KCV) > 0 {
		out.KCV = fmt.Sprintf("%X", d.KCV)
	}
	canary := secret.Random(32)
	defer canary.Wipe()
	if w, err := key.Wrap(ctx, canary, nil); err == nil {
		out.Mechanism = mechanismName(w.Mechanism)
	}
	return out
}

func mechanismName(m uint32) string {
	switch m {
	case seal.MechanismGCM:
		return "AES-256-GCM"
	case seal.MechanismKWP:
		return "AES key wrap with padding (RFC 5649)"
	case seal.MechanismKW:
		return "AES key wrap (RFC 3394)"
	case seal.MechanismArgon2id:
		return "Argon2id"
	case seal.MechanismAge:
		return "age"
	}
	return fmt.Sprintf("%08X", m)
}

// sealPlain seals one plain file and opens it again. Generation 0: there is none.
func (s *Folder) sealPlain(ctx context.Context, r seal.Role, key seal.WrappingKey) (uint64, error) {
	plain, err := readPlain(s.folder, r)
	if errors.Is(err, fs.ErrNotExist) && roles[r].remade {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer clear(plain)
	w, err := s.writer(r, key)
	if err != nil {
		return 0, err
	}
	if err := s.reader().Drop(ctx, r); err != nil { // of an earlier, cut attempt
		return 0, err
	}
	g, err := w.Save(ctx, r, 0, plain)
	if err != nil {
		return 0, err
	}
	o, err := s.Open(ctx, r)
	if err != nil {
		return 0, fmt.Errorf("opening what was sealed: %w", err)
	}
	o.Wipe()
	return g, nil
}

// undo leaves a folder plain in which sealing failed.
func (s *Folder) undo(ctx context.Context, made bool) error {
	var errs []error
	for _, r := range s.boot.Roles {
		errs = append(errs, s.reader().Drop(ctx, r))
	}
	if err := errors.Join(errs...); err != nil {
		return err // seal.toml stays: the next attempt goes on from it
	}
	if err := durable.Remove(Within(s.folder, seal.BootstrapFile)); err != nil {
		return err
	}
	if !made {
		return nil
	}
	id, err := s.first().id()
	if err != nil {
		return err
	}
	return s.first().vault.DestroyWrapper(ctx, id)
}

// clear removes the plain files once the sealed ones count.
func (s *Folder) clear() error {
	for _, r := range s.boot.Roles {
		s.o.Step(r, "clear")
		if err := shred(plainFile(s.folder, r)); err != nil {
			return coded(fmt.Errorf("removing the plain file of %s, which is sealed: %w", r, err))
		}
	}
	return nil
}
