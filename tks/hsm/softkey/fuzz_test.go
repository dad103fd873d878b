package softkey_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"inkan/tks/hsm/softkey"
)

// FuzzOpenSurvives: no file makes Open panic, and none but the original opens.
func FuzzOpenSurvives(f *testing.F) {
	whole := read(f, filled(f))
	lines := bytes.SplitAfter(whole, []byte("\n"))
	f.Add([]byte{})
	f.Add(lines[0])
	f.Add(bytes.Replace(whole, []byte(`"v":1`), []byte(`"v":2`), 1))
	f.Add(append(bytes.Clone(whole), '{', '}'))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte(`"salt"`)) && bytes.Count(b, []byte("\n")) < 2 {
			return // costs a second of Argon2id and is refused by the next test
		}
		path := filepath.Join(t.TempDir(), "keystore")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := softkey.Open(path, pass("correct horse"))
		if err == nil {
			s.Close()
			if !bytes.Equal(bytes.TrimSpace(b), bytes.TrimSpace(whole)) {
				t.Error("an altered file opened")
			}
		}
	})
}
