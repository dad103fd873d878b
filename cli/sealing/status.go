package sealing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/tps/seal"
)

// Status is what is known of a folder's sealing without its secrets.
type Status struct {
	Phase     string       `json:"Phase"` // plain, enabling, sealed, disabling
	Instance  string       `json:"Instance,omitempty"`
	Place     string       `json:"Place,omitempty"` // URI of the token, or the key file
	Slots     []string     `json:"Slots,omitempty"` // further places that files are written for
	Key       string       `json:"Key,omitempty"`   // label of the key of the next write
	KCV       string       `json:"KCV,omitempty"`   // as the HSM has it; probed only
	PINSource string       `json:"PINSource,omitempty"`
	Recovery  string       `json:"Recovery,omitempty"`
	Anchor    string       `json:"Anchor,omitempty"`
	Files     []FileStatus `json:"Files,omitempty"`
	HSM       string       `json:"HSM,omitempty"` // ok, or why not; probed only
}

// FileStatus is one sealed file.
type FileStatus struct {
	Role       string     `json:"Role"`
	Generation uint64     `json:"Generation,omitempty"`
	Anchor     *uint64    `json:"Anchor,omitempty"` // probed only
	SealedAt   *time.Time `json:"SealedAt,omitempty"`
	NotAfter   *time.Time `json:"NotAfter,omitempty"`
	Slots      []string   `json:"Slots,omitempty"`
	Prev       bool       `json:"Prev"`
	Opens      bool       `json:"Opens"`          // probed only
	Code       string     `json:"Code,omitempty"` // where it is not in order
	Number     int        `json:"Number,omitempty"`
	Error      string     `json:"Error,omitempty"`
}

// SealStatus reads the state of a folder. Without probe it needs neither PIN nor HSM.
// It takes no lock, and changes nothing unless probing finds an anchor one behind.
func SealStatus(ctx context.Context, folder string, probe bool, o Options) (Status, error) {
	boot, err := Prepared(folder)
	if err != nil {
		return Status{}, err
	}
	if boot.Phase == "" {
		return Status{Phase: "plain"}, nil
	}
	st := Status{Phase: string(boot.Phase), Instance: boot.Instance.String(), Place: boot.First().String(), Key: boot.Key, PINSource: boot.PINSource,
		Recovery: seal.ShortRecipient(boot.Recipient), Anchor: boot.Anchor}
	if boot.KeyFile != "" {
		st.Place = Within(folder, boot.KeyFile)
	}
	for _, p := range boot.Slots {
		st.Slots = append(st.Slots, p.String())
	}
	var s *Folder
	if probe {
		if s, err = Open(ctx, folder, boot, o); err != nil {
			st.HSM = err.Error()
		} else {
			defer s.Close()
			st.probe(ctx, s)
		}
	}
	plain := seal.New(seal.Config{Dir: folder, Instance: boot.Instance})
	for _, r := range boot.Roles {
		st.Files = append(st.Files, fileStatus(ctx, plain, s, r))
	}
	return st, nil
}

// probe tries the key.
func (st *Status) probe(ctx context.Context, s *Folder) {
	keys, err := s.everyKey(ctx)
	for _, k := range keys {
		err = errors.Join(err, seal.Probe(ctx, k))
	}
	if err != nil {
		st.HSM = err.Error()
		return
	}
	key := keys[0]
	st.HSM = "ok"
	if kcv := key.Describe().KCV; len(kcv) > 0 {
		st.KCV = fmt.Sprintf("%X", kcv)
	}
}

func fileStatus(ctx context.Context, plain *seal.Sealer, s *Folder, r seal.Role) FileStatus {
	out := FileStatus{Role: string(r)}
	st, err := plain.State(ctx, r)
	if unmade(r, err) {
		return out // the node makes it at its next start
	}
	if err == nil {
		out.Generation, out.SealedAt, out.Prev = st.Generation, &st.SealedAt, st.Prev
		if !st.NotAfter.IsZero() {
			out.NotAfter = &st.NotAfter
		}
		for _, slot := range st.Slots {
			out.Slots = append(out.Slots, slot.String())
		}
	}
	if err == nil && s != nil {
		err = out.open(ctx, s, r)
	}
	if err != nil {
		c := seal.CodeOf(err)
		out.Code, out.Number, out.Error = string(c), c.Number(), err.Error()
	}
	return out
}

// open opens the file and reads its anchor.
func (f *FileStatus) open(ctx context.Context, s *Folder, r seal.Role) error {
	if s.boot.Anchor != seal.AnchorNone {
		if st, err := s.reader().State(ctx, r); err == nil {
			f.Anchor = &st.Anchor
		}
	}
	o, err := s.Open(ctx, r)
	if err != nil {
		return err
	}
	defer o.Wipe()
	f.Opens = true
	if r == RoleConfig {
		_, err = decodeSealed(o.Bytes())
	}
	return err
}
