//go:build unix

package cli_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/local"
	"inkan/tps/api"
)

// TestRealArrayChanges: the primary changes by order, is lost, and comes back; its CA
// is replaced; strangers and a node that was detached get nothing.
func TestRealArrayChanges(t *testing.T) {
	f := newFleet(t)
	f.url = "https://cards.array.test:8443"
	recovery := filepath.Join(f.dir, "recovery.pem")
	a := f.first(t, "a.array.test", "--recovery-key", recovery)
	a.keyed(t, 3)
	b := a.join(t, "b.array.test", "tps,tks")
	sameLedger(t, a, b)
	c := a.join(t, "c.array.test", "tps")

	t.Run("by order", func(t *testing.T) {
		end := c.works(t)
		before := a.converged(t)
		for _, part := range []string{"array", "peer certificate"} {
			if f := a.doctor(t, part); f.Verdict != sealing.Fine {
				t.Errorf("%+v", f)
			}
		}
		a.run(t, "array", "promote", b.name)
		after := c.converged(t)
		if p := primary(after); p != b.name || after.Epoch <= before.Epoch || sameCA(before, after) {
			t.Errorf("after the promotion: %+v", after)
		}
		a.refused(t, "not the primary", "array", "rotate-ca")
		b.run(t, "array", "rotate-ca")
		if last := c.converged(t); primary(last) != b.name || sameCA(after, last) {
			t.Errorf("after the CA was replaced: %+v", last)
		}
		end()
	})
	t.Run("strangers", func(t *testing.T) {
		for _, n := range f.nodes {
			n.nothing(t, "nobody")
			n.nothing(t, "a certificate of another CA", stranger(t, a.name))
		}
	})
	t.Run("compromised key", func(t *testing.T) {
		var keys api.List[api.RealmKey]
		c.query(t, &keys, "realm", "list")
		var out api.RealmCompromise
		c.query(t, &out, "realm", "compromised", keys.Entries[0].ID)
		told := map[string]string{}
		for _, p := range out.Clients {
			if told[p.Client] = p.Result; !p.Node || p.Tries != 1 {
				t.Errorf("%+v", p)
			}
		}
		if len(told) != 2 || told[a.name] != "ok" || told[b.name] != "ok" {
			t.Errorf("told %v", told)
		}
	})
	t.Run("authority", func(t *testing.T) {
		a.kill(t)
		a.refused(t, "from their primary, "+b.name, "ca", "rollover")
		a.serve(t)
		b.kill(t)
		b.run(t, "ca", "rollover")
		b.serve(t)
		for _, n := range []*fleetNode{a, c} {
			n.generations(t, 2)
		}
		c.converged(t)
	})
	t.Run("recovery key", func(t *testing.T) {
		b.kill(t)
		a.refused(t, "recovery key", "array", "promote", "--force", "--recovery-key", f.file(t, "other.pem", otherKey(t)))
		a.run(t, "array", "promote", "--force", "--recovery-key", recovery)
		if st := c.converged(t); primary(st) != a.name || len(st.Members) != 2 {
			t.Errorf("after the promotion by force: %+v", st)
		}
		b.stepsBack(t, a)
		b.rejoin(t, a, "tps,tks")
	})
	t.Run("confirmed", func(t *testing.T) {
		a.kill(t)
		var out server.Changed
		b.query(t, &out, "array", "promote", "--force")
		c.waits(t)
		c.refused(t, "was not accepted", "array", "promote", "--confirm", "--fingerprint", "sha256:"+strings.Repeat("0", 64))
		c.run(t, "array", "promote", "--confirm", "--fingerprint", "sha256:"+strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(out.Fingerprint, "SHA256:"), ":", "")))
		if st := c.converged(t); primary(st) != b.name || len(st.Members) != 2 {
			t.Errorf("after the promotion by force: %+v", st)
		}
		a.stepsBack(t, b)
	})
	t.Run("detached", func(t *testing.T) {
		c.kill(t)
		os.Remove(filepath.Join(c.data, "admin.sock")) // which is no file to copy
		thief := *c
		thief.data = filepath.Join(f.dir, "copy")
		if err := os.CopyFS(thief.data, os.DirFS(c.data)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(thief.data, "peer", "peer.key"), 0o600); err != nil { // which a copy forgets
			t.Fatal(err)
		}
		b.run(t, "array", "detach", "--peer", c.name, "--force")
		r := thief.call(t, "array", "status", "--json")
		var st server.ArrayStatus
		if err := json.Unmarshal([]byte(r.out), &st); err != nil || r.code != 1 || st.State != "unreachable" {
			t.Fatalf("with a detached node's certificate: %+v, %v", r, err)
		}
		for _, m := range st.Members {
			if m.Name == b.name && (m.Hash != "" || !strings.Contains(m.Error, "not accept")) {
				t.Errorf("%s tells a detached node %+v", b.name, m)
			}
		}
	})
}

// works has the node ask others for what only they have, over and over. end ends that;
// no request may have failed.
func (n *fleetNode) works(t *testing.T) (end func()) {
	t.Helper()
	cl := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	var stop atomic.Bool
	var asked atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for !stop.Load() {
				res, err := cl.Get("https://" + n.listen().Address + "/readyz")
				if err != nil {
					t.Errorf("through %s: %v", n.name, err)
					return
				}
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if asked.Add(1); res.StatusCode != http.StatusOK {
					t.Errorf("through %s: %s %s", n.name, res.Status, b)
					return
				}
			}
		})
	}
	return func() {
		stop.Store(true)
		all.Wait()
		cl.CloseIdleConnections()
		t.Logf("%d requests through %s, none failed", asked.Load(), n.name)
	}
}

// nothing expects that the peer port gives nothing, not a byte of HTTP, to a caller.
func (n *fleetNode) nothing(t *testing.T, who string, certs ...tls.Certificate) {
	t.Helper()
	conn, err := tls.Dial("tcp", n.listen().Peer, &tls.Config{InsecureSkipVerify: true, Certificates: certs})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "GET /array/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // may be too late
	if b, err := io.ReadAll(conn); len(b) > 0 || err == nil {
		t.Errorf("%s is given %q by %s: %v", who, b, n.name, err)
	}
}

// stranger is a certificate of a CA that is not the array's.
func stranger(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Public CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: ca.NotBefore,
		NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// otherKey is a recovery key of no array.
func otherKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// waits waits until a promotion by force has reached the node.
func (n *fleetNode) waits(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if r := n.call(t, "array", "status"); strings.Contains(r.out, "promote --confirm") {
			if f := n.doctor(t, "array"); f.Verdict != sealing.Warning || !strings.Contains(f.Evidence, "promote --confirm") {
				t.Errorf("the doctor of %s says %+v", n.name, f)
			}
			return
		}
	}
	t.Fatalf("%s has not heard of the promotion", n.name)
}

// keyed has the node know cards that it has keyed.
func (n *fleetNode) keyed(t *testing.T, cards byte) {
	t.Helper()
	n.kill(t)
	l, err := local.OpenLedger(filepath.Join(n.data, "keys", "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	for card := range cards {
		to := local.Target{KeySet: "site", Version: 1}
		g := local.Grant{KDD: gp.KDD{card}, From: local.Target{KeySet: "factory", Version: 0xFF}, To: to, Time: time.Now().UTC()}
		if err := errors.Join(l.Grant(t.Context(), g), l.Complete(t.Context(), g.KDD, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n.serve(t)
}

// sameLedger expects that a node that has joined knows the cards that another has keyed.
func sameLedger(t *testing.T, from, to *fleetNode) {
	t.Helper()
	var ledgers [2][]byte
	for i, n := range []*fleetNode{from, to} {
		var err error
		if ledgers[i], err = os.ReadFile(filepath.Join(n.data, "keys", "ledger")); err != nil {
			t.Error(err)
		}
	}
	if len(ledgers[0]) == 0 || bytes.Count(ledgers[0], []byte("\n")) != bytes.Count(ledgers[1], []byte("\n")) {
		t.Errorf("the ledger of %s is\n%s\nthat of %s\n%s", from.name, ledgers[0], to.name, ledgers[1])
	}
}

// generations waits until the node has so many certificates of the card authority.
func (n *fleetNode) generations(t *testing.T, want int) {
	t.Helper()
	var g []server.Generation
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if n.query(t, &g, "ca", "list"); len(g) == want {
			return
		}
	}
	t.Fatalf("%s has %d keys of the authority, want %d", n.name, len(g), want)
}

// doctor is what the doctor has found about a part of the running node.
func (n *fleetNode) doctor(t *testing.T, part string) sealing.Finding {
	t.Helper()
	r := n.call(t, "doctor", "--no-login", "--json")
	var found []sealing.Finding
	if err := json.Unmarshal([]byte(r.out), &found); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, f := range found {
		if f.Check == "running node, "+part {
			return f
		}
	}
	t.Errorf("the doctor of %s says nothing of %s: %+v", n.name, part, found)
	return sealing.Finding{}
}

// stepsBack starts a former primary again, and expects that it steps back and says how
// to go on.
func (n *fleetNode) stepsBack(t *testing.T, now *fleetNode) {
	t.Helper()
	n.serve(t)
	var r result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		r = n.call(t, "array", "status")
		if strings.Contains(r.err, "promoted in place of this one") {
			want := fmt.Sprintf("it is %s, at %s", now.name, now.listen().Peer)
			if !strings.Contains(r.err, "invite") || !strings.Contains(r.err, want) {
				t.Errorf("%s says %q", n.name, r.err)
			}
			if f := n.doctor(t, "array"); f.Verdict != sealing.Failed || !strings.Contains(f.Evidence, want) {
				t.Errorf("the doctor of %s says %+v", n.name, f)
			}
			return
		}
	}
	t.Fatalf("%s has not stepped back: %+v", n.name, r)
}

// rejoin makes a former member one again.
func (n *fleetNode) rejoin(t *testing.T, primary *fleetNode, roles string) {
	t.Helper()
	n.kill(t)
	i := primary.invite(t, n.name, roles)
	n.run(t, "array", "join", "--primary", i.Primary, "--fingerprint", i.Fingerprint, "--code-file", n.file(t, "code", i.Code))
	n.serve(t)
	if st := primary.converged(t); len(st.Members) != 3 {
		t.Errorf("members %+v", st.Members)
	}
}

func primary(st server.ArrayStatus) string {
	for _, m := range st.Members {
		if m.Primary {
			return m.Name
		}
	}
	return ""
}

// sameCA says whether a member has a certificate of the CA that it had before.
func sameCA(before, after server.ArrayStatus) bool {
	for _, m := range before.Members {
		for _, o := range after.Members {
			if o.Name == m.Name && o.CA == m.CA {
				return true
			}
		}
	}
	return false
}
