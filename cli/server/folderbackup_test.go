//go:build unix

package server_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"inkan/apdu"
	"inkan/apdu/killtest"
	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tps/api"
	"inkan/tps/seal"
	"inkan/tps/token"
)

// backUp backs a folder up for the recovery key, while records are being written.
func backUp(t *testing.T, folder string) (path string, before int) {
	t.Helper()
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	add := func(i int) {
		if _, err := n.DB.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1, byte(i >> 8), byte(i)}, State: token.Unformatted}); err != nil {
			t.Error(err)
		}
	}
	for before = range 50 {
		add(before)
	}
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for i := 50; ; i++ {
			select {
			case <-stop:
				return
			default:
				add(i)
			}
		}
	})
	path = filepath.Join(t.TempDir(), "copy.age")
	got, err := n.BackUpFolder(t.Context(), api.FolderBackupRequest{Path: path, Recipient: recoveryRecipient}, secret.Secret{})
	close(stop)
	writing.Wait()
	must(t, err)
	if got.Files < 4 || got.Bytes == 0 || len(got.SHA256) != 64 {
		t.Errorf("%+v", got)
	}
	return path, before
}

// TestBackupRestore: sealed files, key file and records come back on another place,
// and the node opens there.
func TestBackupRestore(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		folder := sealedFolder(t, p)
		want := text(t, folder)
		path, before := backUp(t, folder)
		to := filepath.Join(t.TempDir(), "new", "data")
		got, err := server.Restore(t.Context(), path, to, secret.New([]byte(recoveryIdentity)), secret.Secret{}, server.Options{})
		must(t, err)
		if got.Problem != "" || got.Node != "lab" {
			t.Errorf("%+v", got)
		}
		if text(t, to) != want {
			t.Error("another configuration was restored")
		}
		n, err := server.Open(t.Context(), to, server.Options{})
		must(t, err)
		defer n.Close()
		if _, err := n.DB.Token(t.Context(), apdu.CUID{1, 0, byte(before)}); err != nil {
			t.Errorf("a record from before the backup: %v", err)
		}
		// The HSM goes on counting: an older copy is noticed.
		if p.uri != "" {
			_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
			must(t, err)
			got, err = server.Restore(t.Context(), path, filepath.Join(t.TempDir(), "old"), secret.New([]byte(recoveryIdentity)), secret.Secret{}, server.Options{})
			must(t, err)
			if !strings.Contains(got.Problem, string(seal.Rollback)) {
				t.Errorf("%+v", got)
			}
		}
	})
}

// archiveOf is a backup of these entries, the last of which is the manifest.
func archiveOf(t *testing.T, entries ...string) string {
	t.Helper()
	to, err := age.ParseX25519Recipient(recoveryRecipient)
	must(t, err)
	var b bytes.Buffer
	sealed, err := age.Encrypt(&b, to)
	must(t, err)
	w := tar.NewWriter(sealed)
	for i := 0; i < len(entries); i += 2 {
		must(t, w.WriteHeader(&tar.Header{Name: entries[i], Size: int64(len(entries[i+1])), Mode: 0o600}))
		_, err := io.WriteString(w, entries[i+1])
		must(t, err)
	}
	must(t, errors.Join(w.Close(), sealed.Close()))
	path := filepath.Join(t.TempDir(), "copy.age")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// TestRestoreRefuses: what is not what the manifest says is not put in place.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	const none = `{"Format": "inkan-folder-1", "Files": []}`
	const one = `{"Format": "inkan-folder-1", "Files": [{"Name": "a", "Size": 1, "Mode": 384, "SHA256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}]}`
	for name, entries := range map[string][]string{
		"no manifest":     {"a", "a"},
		"another format":  {"manifest.json", `{"Format": "x"}`},
		"no JSON":         {"manifest.json", `x`},
		"more files":      {"a", "a", "manifest.json", none},
		"fewer files":     {"manifest.json", one},
		"another content": {"a", "b", "manifest.json", one},
		"a way out":       {"../a", "a", "manifest.json", none},
		"an absolute way": {"/tmp/a", "a", "manifest.json", none},
		"twice":           {"a", "a", "a", "a", "manifest.json", one},
	} {
		dir := t.TempDir()
		_, err := server.Restore(t.Context(), archiveOf(t, entries...), filepath.Join(dir, "data"), secret.New([]byte(recoveryIdentity)), secret.Secret{}, server.Options{})
		if err == nil {
			t.Errorf("%s: restored", name)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
	got, err := server.Restore(t.Context(), archiveOf(t, "a", "a", "manifest.json", one), filepath.Join(t.TempDir(), "data"), secret.New([]byte(recoveryIdentity)), secret.Secret{}, server.Options{})
	if err != nil || !strings.Contains(got.Problem, "run inkan init first") {
		t.Errorf("a whole backup of no node: %+v, %v", got, err)
	}
}

// TestRestoreKilled: killed at any step, the folder is not there, or it is whole.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	path, _ := backUp(t, folder)
	tried := 0
	for at := 1; ; at += 2 {
		to := filepath.Join(t.TempDir(), "data")
		if !killtest.Kill(t, "TestRestoreKilledChild", at, path, to) {
			break
		}
		tried++
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("killed at step %d: %v", at, err)
		}
		if err := restoreTo(t.Context(), path, to, server.Options{}); err != nil {
			t.Errorf("after a kill at step %d: %v", at, err)
		}
		must(t, open(t, to))
	}
	if tried < 2 {
		t.Errorf("%d kills", tried)
	}
}

func restoreTo(ctx context.Context, from, to string, o server.Options) error {
	_, err := server.Restore(ctx, from, to, secret.New([]byte(recoveryIdentity)), secret.Secret{}, o)
	return err
}

// TestRestoreKilledChild is the process that TestRestoreKilled kills.
func TestRestoreKilledChild(t *testing.T) {
	args, step := killtest.Child(t)
	if args == nil {
		return
	}
	must(t, restoreTo(t.Context(), args[0], args[1], server.Options{Step: func(seal.Role, string) { step() }}))
}
