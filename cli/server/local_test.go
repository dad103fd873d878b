//go:build unix

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tks/local"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// cheap is the cost of passwords in tests.
var cheap = auth.Cost{Memory: 64, Passes: 1, Lanes: 1}

// prepared is a data folder for a trial.
func prepared(t *testing.T, folder string) string {
	t.Helper()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab = "lab", true
	cfg.Listen = config.Listen{Address: "127.0.0.1:0", Names: []string{"localhost"}, URL: "https://localhost:8443"}
	cfg.CA.URL = cfg.Listen.URL
	must(t, server.Create(t.Context(), folder, server.Answers{Config: cfg, KeyParams: softkeytest.Cheap(), PasswordCost: cheap,
		Admin: auth.User{ID: "admin", Name: "Administrator", Roles: auth.Roles}, AdminPassword: secret.New([]byte("a long password"))}))
	return folder
}

// opened is an open node on a folder of its own, and its log.
func opened(t *testing.T) (*server.Node, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	n, err := server.Open(t.Context(), prepared(t, t.TempDir()), server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	return n, &log
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// served serves the local socket of a node until the test ends.
func served(t *testing.T, n *server.Node) net.Listener {
	t.Helper()
	l, err := n.ListenLocal()
	must(t, err)
	s := &http.Server{Handler: n.LocalHandler(), ConnContext: server.WithPeer, ReadHeaderTimeout: time.Minute}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l
}

// users asks for the users through an access.
func users(t *testing.T, a *server.Access) []string {
	t.Helper()
	res, err := a.Client.Get(a.URL + api.Base + "/admin/users")
	must(t, err)
	defer res.Body.Close()
	var l api.List[api.User]
	must(t, json.NewDecoder(res.Body).Decode(&l))
	var ids []string
	for _, u := range l.Entries {
		ids = append(ids, u.ID)
	}
	return ids
}

// TestLocal: the same answer with and without a node, also where the path is too
// long for a socket's address.
func TestLocal(t *testing.T) {
	t.Parallel()
	folders := map[string]string{"short": "", "long": strings.Repeat("a folder with a long name/", 6)}
	if runtime.GOOS != "linux" {
		delete(folders, "long")
	}
	for name, below := range folders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := prepared(t, filepath.Join(t.TempDir(), below))
			a, err := server.Local(t.Context(), folder, server.Options{})
			must(t, err)
			if got := users(t, a); len(got) != 1 || got[0] != "admin" {
				t.Errorf("in process: %q", got)
			}
			must(t, a.Close())
			n, err := server.Open(t.Context(), folder, server.Options{})
			must(t, err)
			l := served(t, n)
			info, err := os.Lstat(filepath.Join(folder, server.SocketFile))
			must(t, err)
			if info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			a, err = server.Local(t.Context(), folder, server.Options{})
			must(t, err)
			if got := users(t, a); len(got) != 1 || got[0] != "admin" {
				t.Errorf("through the socket: %q", got)
			}
			must(t, errors.Join(a.Close(), l.Close(), l.Close(), n.Close()))
			if _, err := os.Lstat(filepath.Join(folder, server.SocketFile)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket is still there: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(folder, ".s*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// TestLocalBusy: a folder that somebody has open and does not serve.
func TestLocalBusy(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := server.Local(ctx, n.Folder, server.Options{}); !errors.Is(err, server.ErrInUse) || !strings.Contains(err.Error(), server.SocketFile) {
		t.Errorf("got %v", err)
	}
	done := make(chan error, 1) // it waits until the other one has finished
	go func() {
		a, err := server.Local(context.Background(), n.Folder, server.Options{})
		if err == nil {
			err = a.Close()
		}
		done <- err
	}()
	time.Sleep(200 * time.Millisecond)
	must(t, n.Close())
	must(t, <-done)
	if _, err := server.Local(t.Context(), t.TempDir(), server.Options{}); !errors.Is(err, server.ErrNotPrepared) {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestListenLocal(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	path := filepath.Join(n.Folder, server.SocketFile)
	old, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path}) // what a killed node leaves
	must(t, err)
	old.SetUnlinkOnClose(false)
	must(t, old.Close())
	l, err := n.ListenLocal()
	must(t, err)
	c, err := net.Dial("unix", path)
	must(t, err)
	must(t, errors.Join(c.Close(), l.Close()))
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	if _, err := n.ListenLocal(); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is gone: %q, %v", b, err)
	}
}

// TestPeers: only root and the owner come in, and nobody of whom nothing is known.
func TestPeers(t *testing.T) {
	t.Parallel()
	n, log := opened(t)
	owner, err := sealing.OwnerOf(n.Folder)
	must(t, err)
	h := n.LocalHandler()
	ask := func(ctx context.Context) int {
		r := httptest.NewRequest("GET", api.Base+"/admin/users", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(ctx))
		return w.Code
	}
	for name, tt := range map[string]struct {
		ctx    context.Context
		status int
	}{
		"root":    {server.WithUser(t.Context(), "0", nil), 200},
		"owner":   {server.WithUser(t.Context(), owner, nil), 200},
		"mode":    {server.WithUser(t.Context(), "", nil), 200}, // a system that does not say: the socket's mode decided
		"other":   {server.WithUser(t.Context(), "4242", nil), 403},
		"unknown": {server.WithUser(t.Context(), "0", errors.New("no such option")), 403},
		"nobody":  {t.Context(), 403},
		"forged":  {api.WithCaller(t.Context(), api.Caller{Name: "eve", Roles: auth.Roles}), 403},
	} {
		if got := ask(tt.ctx); got != tt.status {
			t.Errorf("%s: %d, want %d", name, got, tt.status)
		}
	}
	if !strings.Contains(log.String(), "user 4242 is neither root nor the owner") {
		t.Errorf("log %s", log)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := ask(server.WithPeer(t.Context(), a)); runtime.GOOS == "linux" && got != 403 {
		t.Errorf("a pipe: %d", got)
	}
}

// TestInProcess: the transport of commands without a node keeps the rules of HTTP.
func TestInProcess(t *testing.T) {
	t.Parallel()
	a, err := server.Local(t.Context(), prepared(t, t.TempDir()), server.Options{})
	must(t, err)
	defer a.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", a.URL+api.Base+"/keysets", strings.NewReader(`{"Name": "corp", "Version": "03", "Type": "aes-256"}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := a.Client.Do(req)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != 201 || int64(len(b)) != res.ContentLength || !strings.Contains(string(b), "corp/03") {
		t.Errorf("%d %d %s", res.StatusCode, res.ContentLength, b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err = http.NewRequestWithContext(ctx, "GET", a.URL+api.Base+"/keysets", nil)
	must(t, err)
	if res, err := a.Client.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", res, err)
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	out := t.TempDir()
	pass := secret.New([]byte("correct horse battery"))
	for name, tt := range map[string]struct {
		path   string
		pass   string
		status int
	}{
		"in the folder":  {filepath.Join(n.Folder, "copy"), "correct horse battery", 400},
		"beside the key": {filepath.Join(n.Folder, "keys", "copy"), "correct horse battery", 400},
		"through a link": {filepath.Join(out, "link", "copy"), "correct horse battery", 400},
		"nowhere":        {filepath.Join(out, "none", "copy"), "correct horse battery", 400},
		"short":          {filepath.Join(out, "copy"), "correct hor", 400},
		"existing":       {filepath.Join(out, "there"), "correct horse battery", 409},
	} {
		if name == "through a link" {
			must(t, os.Symlink(n.Folder, filepath.Join(out, "link")))
		}
		if name == "existing" {
			must(t, os.WriteFile(tt.path, []byte("precious"), 0o600))
		}
		_, err := n.WriteBackup(t.Context(), tt.path, secret.New([]byte(tt.pass)))
		var e *api.Error
		if !errors.As(err, &e) || e.Status != tt.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := filepath.Join(out, "copy")
	b, err := n.WriteBackup(t.Context(), path, pass)
	must(t, err)
	if b.Kind != "file" || b.Path != path || b.Checked != "tms:master:site:v02" || !slices.Equal(b.Keys, []string{"tms:master:piv:v01", "tms:master:site:v02", "tms:ca:inkan:v01"}) {
		t.Errorf("got %+v", b)
	}
	s, err := softkey.Restore(path, pass, filepath.Join(t.TempDir(), "keystore"))
	must(t, err)
	must(t, s.Close())
	must(t, n.Close())
}

func TestKeyError(t *testing.T) {
	t.Parallel()
	var e *api.Error
	for name, ok := range map[string]bool{
		"nil":       server.KeyError(nil) == nil,
		"exists":    errors.Is(server.KeyError(hsm.ErrExists), token.ErrConflict),
		"granted":   errors.Is(server.KeyError(local.ErrNotGranted), token.ErrNotFound),
		"mechanism": errors.As(server.KeyError(&hsm.MechanismError{Token: "t", Operation: "wrap"}), &e) && e.Status == 501,
		"other":     errors.Is(server.KeyError(fs.ErrClosed), fs.ErrClosed),
	} {
		if !ok {
			t.Error(name)
		}
	}
}

// TestDEF51: a node whose default profile does not exist does not serve: every
// card would be refused. That for cards without a card manager is needed once somebody
// names another one than was shipped.
func TestDEF51(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	for setting, of := range map[string]*token.ProfileName{
		"default_profile": &n.Config.TPS.DefaultProfile, "unmanaged_profile": &n.Config.TPS.UnmanagedProfile,
	} {
		was := *of
		*of = "formatMappingResolver"
		err := n.Serve(t.Context(), func(server.Listener) { t.Error("it serves") })
		if err == nil || !strings.Contains(err.Error(), setting+` = "formatMappingResolver": there is no such profile`) {
			t.Errorf("%s: got %v", setting, err)
		}
		*of = was
	}
}
