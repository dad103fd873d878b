//go:build unix

package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/remote"
	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/wire"
)

// events are the records of a folder's audit with a name.
func events(t *testing.T, folder, name string) (out []audit.Event) {
	t.Helper()
	_, err := audit.Scan(filepath.Join(folder, "audit"), func(e audit.Event) error {
		if e.Name == name {
			out = append(out, e)
		}
		return nil
	})
	must(t, err)
	return out
}

// ready asks a node how it is.
func ready(t *testing.T, n *server.Node) (int, map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	n.ServeReady(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var body map[string]string
	must(t, json.Unmarshal(w.Body.Bytes(), &body))
	return w.Code, body
}

// locally makes a request through a running node's local socket.
func locally(t *testing.T, folder, method, path, body string) (int, string) {
	t.Helper()
	a, err := server.Local(t.Context(), folder, server.Options{})
	must(t, err)
	defer a.Close()
	req, err := http.NewRequestWithContext(t.Context(), method, a.URL+api.Base+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := a.Client.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(text)
}

// TestArrayOfRoles: three nodes have the keys, one serves cards and one people. A card
// gets its keys and certificates while two of the first three run; and those open no
// port but that of the array.
func TestArrayOfRoles(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	folder := a.folderFor("tks1", config.RoleTKS)
	twin, third := copyFolder(t, folder), copyFolder(t, folder)
	keys := []*arrayNode{
		a.start("tks1", folder, config.RoleTKS), a.start("tks2", twin, config.RoleTKS), a.start("tks3", third, config.RoleTKS),
	}
	for _, n := range keys {
		if n.at.Address != "" || n.at.Plain != "" || n.at.Peers == "" {
			t.Errorf("listens at %+v", n.at)
		}
	}
	desk := a.folderFor("tps1", config.RoleTPS)
	for _, name := range []string{"keys/keystore", "passphrase", "ca/ca.pem"} {
		if _, err := os.Stat(filepath.Join(desk, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a node without keys has %s", name)
		}
	}
	tps1 := a.start("tps1", desk, config.RoleTPS)
	siteProfile(t, tps1.Node)
	first := newCard(t)
	must(t, tps1.operate(t, first, wire.Format, wire.Enroll))

	at := slices.IndexFunc(keys, func(n *arrayNode) bool { return len(events(t, n.Folder, "TKS_WRAP_KEY_SET")) > 0 })
	if at < 0 {
		t.Fatal("no node with keys has wrapped any")
	}
	used, others := keys[at], slices.Delete(slices.Clone(keys), at, at+1)
	for _, name := range []string{"TKS_DERIVE_SESSION", "TKS_WRAP_KEY_SET", "TKS_PEER_CALL"} {
		es := events(t, used.Folder, name)
		if len(es) == 0 || es[0].Subject != "tps1" {
			t.Errorf("%s of the node with the keys: %+v", name, es)
		}
		if es := events(t, desk, name); len(es) != 0 {
			t.Errorf("the node without keys recorded %+v", es)
		}
	}
	for _, n := range others {
		if es := events(t, n.Folder, "TKS_WRAP_KEY_SET"); len(es) != 0 {
			t.Errorf("another node was asked: %+v", es)
		}
		if es := events(t, n.Folder, "TKS_PEER_CALL"); len(es) != 1 || es[0].Subject != used.seat.name || es[0].Fields["call"] != "ledger/grant" {
			t.Errorf("the ledger of another node: %+v", es)
		}
	}
	if status, body := ready(t, tps1.Node); status != http.StatusOK || body["tks tks1"] != "ok" || body["tks tks2"] != "ok" {
		t.Errorf("HTTP %d %v", status, body)
	}

	useConsole(t, a)

	if status, body := locally(t, used.Folder, http.MethodGet, "/keysets", ""); status != http.StatusOK || !strings.Contains(body, `"site"`) {
		t.Errorf("a node with keys alone, through its local socket: HTTP %d %s", status, body)
	}
	used.stop()
	must(t, tps1.operate(t, newCard(t), wire.Format))
	must(t, tps1.operate(t, first, wire.ResetPIN))
	gone, there := "tks "+used.seat.name, "tks "+others[0].seat.name
	if status, body := ready(t, tps1.Node); status != http.StatusOK || !strings.HasPrefix(body[gone], "not reachable since ") || body[there] != "ok" {
		t.Errorf("HTTP %d %v", status, body)
	}
	state, err := server.Running(t.Context(), desk)
	must(t, err)
	if state == nil || !state.Ready || !strings.HasPrefix(state.Parts[gone], "not reachable since ") {
		t.Errorf("a command is told %+v", state)
	}

	others[0].stop()
	if err := tps1.operate(t, newCard(t), wire.Format); err == nil {
		t.Error("one node of three keyed a card")
	}
	must(t, tps1.operate(t, first, wire.ResetPIN))
	others[1].stop()
	if status, body := ready(t, tps1.Node); status != http.StatusServiceUnavailable || body["keys"] == "ok" {
		t.Errorf("without any keys: HTTP %d %v", status, body)
	}
	if err := tps1.operate(t, newCard(t), wire.Format); err == nil {
		t.Error("a card was formatted without keys")
	}
}

// useConsole runs a node that serves people only, with the keys of others.
func useConsole(t *testing.T, a *testArray) {
	t.Helper()
	folder := a.folderFor("con1", config.RoleConsole)
	n := a.start("con1", folder, config.RoleConsole)
	useRealm(t, n.Node)
	trust := wire.CertificateTrust(n.Authority.Certificate())
	trust.ServerName = "localhost"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{
		"/tps/tps": 404, "/nk_service": 404, "/tps/phoneHome": 404, "/ca/crl": 200, "/.well-known/jwks.json": 200, api.Base + "/tokens": 401, "/readyz": 200,
		"/tks/v1/random": 404,
	} {
		res, err := client.Get("https://" + n.at.Address + path)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: HTTP %d, want %d", path, res.StatusCode, want)
		}
	}
	for _, c := range [][3]string{
		{http.MethodPost, "/keysets", `{"Name":"corp","Version":"01","Type":"aes-128"}`}, {http.MethodPost, "/releases", `{"KDD":"00010203040506070809"}`},
		{http.MethodGet, "/key-backup", ""},
	} {
		status, body := locally(t, folder, c[0], c[1], c[2])
		if status != http.StatusConflict || !strings.Contains(body, "has not the role tks") || !strings.Contains(body, "tks1, tks2, tks3") {
			t.Errorf("%s %s: HTTP %d %s", c[0], c[1], status, body)
		}
	}
	if status, body := locally(t, folder, http.MethodGet, "/keysets", ""); status != http.StatusOK || !strings.Contains(body, `"site"`) {
		t.Errorf("the key sets there are: HTTP %d %s", status, body)
	}
	n.stop()
	if _, err := server.RollOver(t.Context(), folder, server.Options{}, ""); !errors.Is(err, server.ErrNoKeys) {
		t.Errorf("a roll-over at a node that is in no array: %v", err)
	}
}

// TestPeerPort: what the peer port of a node with keys gives to whom.
func TestPeerPort(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	folder := a.folderFor("tks1", config.RoleTKS)
	edit(t, folder, "[tks]", "[[peer]]\nname = \"tps2\"\nmethods = [\"session\"]\nkey_sets = [\"factory\"]\n\n[tks]")
	tks1 := a.start("tks1", folder, config.RoleTKS)
	a.mu.Lock()
	a.roles["tps1"], a.roles["tps2"] = []config.Role{config.RoleTPS}, []config.Role{config.RoleTPS}
	a.mu.Unlock()
	ask := func(name, path string) int {
		t.Helper()
		method := http.MethodGet
		if strings.HasPrefix(path, "/tks") {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+tks1.at.Peers+path, strings.NewReader(`{"n":8}`))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		res, err := a.ca.Client(name).Do(req)
		must(t, err)
		res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		name, path string
		want       int
	}{
		{"tps1", "/tks/v1/random", 200}, {"tps2", "/tks/v1/random", 403}, {"stranger", "/tks/v1/random", 403},
		{"tps1", "/readyz", 200}, {"stranger", "/readyz", 404}, {"tps1", "/tps/tps", 404}, {"tps1", api.Base + "/tokens", 404},
	} {
		if got := ask(c.name, c.path); got != c.want {
			t.Errorf("%s %s: HTTP %d, want %d", c.name, c.path, got, c.want)
		}
	}
	es := events(t, folder, "TKS_PEER_CALL")
	if len(es) != 2 || es[0].Subject != "tps2" || es[0].Outcome != audit.Failure || es[1].Subject != "" {
		t.Errorf("recorded %+v", es)
	}
	nobody := a.ca.TLS("tps1")
	nobody.Certificates = nil
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: nobody}}
	if res, err := client.Get("https://" + tks1.at.Peers + "/readyz"); err == nil {
		res.Body.Close()
		t.Error("who shows no certificate gets in")
	}
}

// TestNoArray: a node whose roles want an array does not start without one, and says
// what to do.
func TestNoArray(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	if _, err := server.Open(t.Context(), a.folderFor("tps1", config.RoleTPS), server.Options{}); !errors.Is(err, server.ErrNoKeys) {
		t.Errorf("without keys: %v", err)
	}
	n, err := server.Open(t.Context(), a.folderFor("tks1", config.RoleTKS), server.Options{})
	must(t, err)
	defer n.Close()
	if err := n.Serve(t.Context(), nil); !errors.Is(err, server.ErrNoPort) {
		t.Errorf("with keys alone: %v", err)
	}
	_, err = server.OpenIn(t.Context(), a.folderFor("tps2", config.RoleTPS), server.Options{}, seat{a, "tps2", nil})
	if err == nil || !strings.Contains(err.Error(), "no node with the role tks is known") {
		t.Errorf("in an array without keys: %v", err)
	}
}

// TestFingerprint compares nodes with keys, as joining does.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	folder := a.folderFor("tks1", config.RoleTKS)
	twin := copyFolder(t, folder)
	tks1, tks2 := a.start("tks1", folder, config.RoleTKS), a.start("tks2", twin, config.RoleTKS)
	other := a.start("tks3", a.folderFor("tks3", config.RoleTKS), config.RoleTKS)
	prints := map[*arrayNode]remote.Fingerprint{}
	for _, n := range []*arrayNode{tks1, tks2, other} {
		f, err := n.Fingerprint(t.Context())
		must(t, err)
		prints[n] = f
	}
	if d := remote.Differences("tks1", prints[tks1], "tks2", prints[tks2]); d != nil {
		t.Errorf("twins differ: %q", d)
	}
	d := remote.Differences("tks1", prints[tks1], "tks3", prints[other])
	if len(d) != 3 || !strings.HasPrefix(d[0], "key pair tms:ca:inkan:v01") || !strings.HasPrefix(d[1], "key set piv version 01") ||
		!strings.HasPrefix(d[2], "key set site version 02") {
		t.Errorf("strangers differ in %q", d)
	}
	c, err := remote.New(remote.Config{Nodes: tks2.seat.TKSNodes})
	must(t, err)
	nodes := tks2.seat.TKSNodes()
	at := slices.IndexFunc(nodes, func(n remote.Node) bool { return n.Name == "tks1" })
	f, err := c.FingerprintOf(t.Context(), nodes[at])
	must(t, err)
	if d := remote.Differences("tks1", f, "tks2", prints[tks2]); d != nil {
		t.Errorf("asked over the peer port: %q", d)
	}
}

// TestKeysOfEach: nodes with key files of their own sign with each other's realm keys,
// and destroy them everywhere.
func TestKeysOfEach(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	folder := a.folderFor("tks1", config.RoleTKS)
	twin := copyFolder(t, folder)
	tks1, tks2 := a.start("tks1", folder, config.RoleTKS), a.start("tks2", twin, config.RoleTKS)
	ctx, label := t.Context(), hsm.SignerLabel("tms:sign:abc:v01")
	made, err := tks1.Signers().GenerateSigner(ctx, label, hsm.P256)
	must(t, err)
	found, err := tks2.Signers().Signer(ctx, label)
	must(t, err)
	digest := sha256.Sum256([]byte("message"))
	sig, err := found.Sign(nil, digest[:], crypto.SHA256)
	must(t, err)
	if !ecdsa.VerifyASN1(made.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("signed with another key")
	}
	must(t, tks2.Signers().DestroySigner(ctx, label))
	for _, n := range []*arrayNode{tks1, tks2} {
		if _, err := n.Signers().Signer(ctx, label); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", n.seat.name, err)
		}
		if err := n.Signers().DestroySigner(ctx, label); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", n.seat.name, err)
		}
		if _, err := n.Signers().Signer(ctx, "tms:seal:00000000:v01"); !errors.Is(err, hsm.ErrNotFound) {
			t.Errorf("%s: a label for nobody else: %v", n.seat.name, err)
		}
	}
	k, err := tks2.Signers().ImportSigner(ctx, label, newKey(t))
	must(t, err)
	tks1.stop()
	if _, err := tks2.Signers().Signer(ctx, label); err != nil {
		t.Errorf("its own key: %v", err)
	}
	if err := tks2.Signers().DestroySigner(ctx, label); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("nobody knows whether the node that is gone has it: %v", err)
	}
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
		t.Error("a destroyed key signs")
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

// TestHealthFrom: a load balancer that is listed is told how the node is, and nobody
// else who is not on this machine.
func TestHealthFrom(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	folder := a.folderFor("all1", config.RoleAll)
	edit(t, folder, "[listen]", "[listen]\nhealth_from = [\"192.0.2.7\"]")
	n := a.start("all1", folder, config.RoleAll)
	h, err := n.Routes()
	must(t, err)
	for from, want := range map[string]int{"127.0.0.1:1": 200, "192.0.2.7:1": 200, "192.0.2.8:1": 404, "": 404} {
		for _, path := range []string{"/healthz", "/readyz"} {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
			r.RemoteAddr = from
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s from %q: HTTP %d, want %d", path, from, w.Code, want)
			}
		}
	}
}
