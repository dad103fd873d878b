//go:build unix

package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// password is the password of a user.
func (s *site) password(user string) string { return s.secret("Copper-Lantern-" + user) }

// secret remembers what no process may write anywhere.
func (s *site) secret(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, text)
	return text
}

// secretFile writes a secret for a command to read.
func (s *site) secretFile(t *testing.T, text string) string {
	t.Helper()
	return s.file(t, "secret-"+hex.EncodeToString([]byte(text)), text+"\n")
}

// checkSecrets searches everything that was written: output of all processes, the
// audit record and the database. In the database only hashes may stand.
func (s *site) checkSecrets(t *testing.T) {
	t.Helper()
	texts := map[string][]byte{"output of the processes": s.said.bytes()}
	for _, dir := range []string{"audit", "keys", "ca", "inkan.toml", "inkan.db", "inkan.db-wal"} {
		err := filepath.WalkDir(filepath.Join(s.data, dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !e.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			texts[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, known := range []string{"level=DEBUG", stories[0].user, stories[0].fullName} { // a search that finds nothing proves nothing
		if _, found := contains(texts["output of the processes"], known); !found {
			t.Errorf("the output of the processes has no %q", known)
		}
	}
	for name, text := range texts {
		for _, secret := range s.secrets {
			if form, found := contains(text, secret); found {
				t.Errorf("%s holds a secret, %s: %q", name, form, secret)
			}
		}
	}
}

// contains finds a secret as it is, in hexadecimal or in base64.
func contains(text []byte, secret string) (form string, found bool) {
	lower := bytes.ToLower(text)
	for form, image := range map[string]string{
		"as it is":       strings.ToLower(secret),
		"in hexadecimal": hex.EncodeToString([]byte(secret)),
		"in base64":      strings.ToLower(base64.RawStdEncoding.EncodeToString([]byte(secret))),
		"as octets":      strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	} {
		if bytes.Contains(lower, []byte(image)) {
			return form, true
		}
	}
	return "", false
}
