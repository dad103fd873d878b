package softkey_test

import (
	"path/filepath"
	"testing"

	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
)

// TestBackupOfWrapper: a wrapping key is in a backup, and tried where it is the only
// key; a counter is not, so that a backup stays good while it counts.
func TestBackupOfWrapper(t *testing.T) {
	t.Parallel()
	const counter hsm.CounterLabel = "tms:sealgen:00112233:inkan.toml"
	s := create(t, filepath.Join(t.TempDir(), "keys", "keystore"))
	id := hsm.WrapperID{Instance: [4]byte{0, 0x11, 0x22, 0x33}, Version: 1}
	w, err := s.GenerateWrapper(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetCounter(t.Context(), counter, 3); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := s.Backup(path, pass("correct horse")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetCounter(t.Context(), counter, 4); err != nil {
		t.Fatal(err)
	}
	checked, err := s.CheckBackup(path, pass("correct horse"))
	if err != nil || checked.Keys != 1 || checked.Label != id.Label() {
		t.Errorf("%+v, %v", checked, err)
	}
	restored, err := softkey.Restore(path, pass("correct horse"), filepath.Join(t.TempDir(), "keystore"))
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	again, err := restored.Wrapper(t.Context(), id)
	if err != nil || string(again.Info().KCV) != string(w.Info().KCV) {
		t.Errorf("%v", err)
	}
	if n, err := restored.Counter(t.Context(), counter); err != nil || n != 0 {
		t.Errorf("counter %d, %v", n, err)
	}
}
