package peer_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/peer"
)

// TestStateHash: it changes with members, CAs, revocations and epoch, and with nothing
// else; the CA's private key is in no file.
func TestStateHash(t *testing.T) {
	t.Parallel()
	s, record := seed(t)
	for name, c := range map[string]struct {
		change func(*peer.State)
		same   bool
	}{
		"nothing": {func(*peer.State) {}, true},
		"epoch":   {func(s *peer.State) { s.Epoch++ }, false},
		"a member": {func(s *peer.State) {
			s.Members = append([]peer.Member{}, s.Members...)
			s.Members[0].State = peer.Draining
		}, false},
		"a CA":        {func(s *peer.State) { s.CAs = append([]peer.Authority{}, s.CAs...); s.CAs[0].Role = peer.RetiringCA }, false},
		"revocations": {func(s *peer.State) { s.Revoked = []peer.Revocation{{Serial: "1"}} }, false},
		"the name":    {func(s *peer.State) { s.Name = "other" }, true},
	} {
		x := s
		c.change(&x)
		same(t, name+" leaves the hash", x.Hash() == s.Hash(), c.same)
	}
	same(t, "length of the hash", len(s.Hash()), 64)
	if bytes.Contains(record, []byte("PRIVATE KEY")) {
		t.Error("a private key is in the record")
	}
}

func TestParseStateRefuses(t *testing.T) {
	t.Parallel()
	s, _ := seed(t)
	for name, change := range map[string]func(*peer.State){
		"format":            func(s *peer.State) { s.Format = 2 },
		"id":                func(s *peer.State) { s.ID = "x" },
		"epoch":             func(s *peer.State) { s.Epoch = 0 },
		"name":              func(s *peer.State) { s.Name = "a\x1Bb" },
		"primary":           func(s *peer.State) { s.Primary = s.ID },
		"no member":         func(s *peer.State) { s.Members = nil },
		"twice":             func(s *peer.State) { s.Members = append(s.Members, s.Members[0]) },
		"no CA":             func(s *peer.State) { s.CAs = nil },
		"no current CA":     func(s *peer.State) { s.CAs[0].Role = peer.PendingCA },
		"role of a CA":      func(s *peer.State) { s.CAs[0].Role = "king" },
		"CA of somebody":    func(s *peer.State) { s.CAs[0].Certificate = mint(t, func(*x509.Certificate) {}).Certificate[0] },
		"member's name":     func(s *peer.State) { s.Members[0].Name = "127.0.0.1" },
		"member's address":  func(s *peer.State) { s.Members[0].Address = "nowhere" },
		"member's roles":    func(s *peer.State) { s.Members[0].Roles = nil },
		"member's state":    func(s *peer.State) { s.Members[0].State = peer.Detached },
		"serial":            func(s *peer.State) { s.Members[0].Certificates[0].Serial = "../x" },
		"revoked serial":    func(s *peer.State) { s.Revoked = []peer.Revocation{{Serial: "X"}} },
		"domain":            func(s *peer.State) { s.Domains = []string{"*"} },
		"no domain":         func(s *peer.State) { s.Domains = nil },
		"recovery key":      func(s *peer.State) { s.Recovery = []byte{1} },
		"promotion":         func(s *peer.State) { s.Promotion = &peer.Statement{} },
		"canonical form":    nil,
		"an unknown member": nil,
	} {
		b, err := peer.Canonical(s)
		must(t, err)
		x, err := peer.ParseState(b)
		must(t, err)
		switch {
		case change != nil:
			change(&x)
			b, err = peer.Canonical(x)
			must(t, err)
		case name == "canonical form":
			b = append([]byte(" "), b...)
		default:
			b = bytes.Replace(b, []byte(`"name"`), []byte(`"nama"`), 1)
		}
		if _, err := peer.ParseState(b); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*peer.Config){
		"no vault":   func(c *peer.Config) { c.CAKeys = nil },
		"no folder":  func(c *peer.Config) { c.Dir = "" },
		"no key":     func(c *peer.Config) { c.Key = nil },
		"an address": func(c *peer.Config) { c.Name = "10.0.0.1" },
		"no port":    func(c *peer.Config) { c.Address = "tps1.example" },
		"no role":    func(c *peer.Config) { c.Roles = nil },
		"short life": func(c *peer.Config) { c.Life = time.Hour },
		"long life":  func(c *peer.Config) { c.Life = 91 * 24 * time.Hour },
		"negative":   func(c *peer.Config) { c.Interval = -1 },
	} {
		cfg := newBox(t, "tps1.example", peer.TPS).cfg
		change(&cfg)
		if _, err := peer.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	b := newBox(t, "tps1.example", peer.TPS)
	refused(t, "invite outside", second(b.Invite("x.example", b.cfg.Roles, 0)), peer.ErrOutside)
	refused(t, "status outside", second(b.Status(t.Context())), peer.ErrOutside)
	refused(t, "force outside", second(b.ForcePromote(t.Context(), secret.Secret{})), peer.ErrOutside)
	refused(t, "leaving nothing", b.DetachSelf(t.Context()), peer.ErrOutside)
	must(t, b.Init(t.Context(), "site", peer.InitOptions{}))
	refused(t, "second init", b.Init(t.Context(), "site", peer.InitOptions{}), peer.ErrInside)
}

func second[T any](_ T, err error) error { return err }

// TestDocuments: bounded, and the same everywhere.
func TestDocuments(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	must(t, p.SetDocuments(map[string][]byte{"ca.pem": []byte("one"), "big": make([]byte, 1<<20-3)}))
	p.converged()
	same(t, "replicated", len(k.Documents()["big"]), 1<<20-3)
	for name, docs := range map[string]map[string][]byte{
		"too big":  {"big": make([]byte, 1<<20+1)},
		"its name": {"../x": nil},
	} {
		if err := p.SetDocuments(docs); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	refused(t, "documents of a member", k.SetDocuments(nil), peer.ErrNotPrimary)
	same(t, "kept", string(p.Documents()["ca.pem"]), "one")
}

// TestRevocationList: the file is signed by the CA and lists who was detached.
func TestRevocationList(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	serial := k.serial()
	k.halt()
	must(t, p.Detach(t.Context(), k.node(p), true))
	until(t, func() bool {
		der, err := os.ReadFile(filepath.Join(p.cfg.Dir, "array.crl"))
		if err != nil {
			return false
		}
		crl, err := x509.ParseRevocationList(der)
		must(t, err)
		must(t, crl.CheckSignatureFrom(p.CAs()[0].CA))
		return len(crl.RevokedCertificateEntries) == 1 && crl.RevokedCertificateEntries[0].SerialNumber.Text(16) == serial
	}, func() string { return "the list does not have it" })
}

// TestStatusWords: unreachable while a member is silent, diverged when it lags for a
// minute.
func TestStatusWords(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	k.killAt(1)
	must(t, p.SetDocuments(map[string][]byte{"a": nil}))
	status := func(want peer.Word) {
		t.Helper()
		st, err := p.Status(t.Context())
		must(t, err)
		same(t, "status", st.Word, want)
		if st.Why == "" {
			t.Error("it does not say why")
		}
	}
	status(peer.Converging)
	p.clock.forward(61 * time.Second)
	status(peer.Diverged)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := p.RotateCA(ctx)
	refused(t, "a change meanwhile", err, peer.ErrBusy)
	if !strings.Contains(err.Error(), "tks1.example") {
		t.Errorf("%v does not name whom it waits for", err)
	}
	k.halt()
	status(peer.Unreachable)
	k.revive()
	k.run()
	p.converged()
}

// TestSlowStranger: some who open a connection and say nothing hold nobody up, each
// for the ten seconds that he has.
func TestSlowStranger(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	for range 4 {
		c, err := net.Dial("tcp", p.cfg.Address)
		must(t, err)
		defer c.Close()
	}
	began := time.Now()
	p.join("tks1.example", peer.TKS)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a join took %s", took)
	}
}

// TestRefusedText: a person sees who, why and what was expected.
func TestRefusedText(t *testing.T) {
	t.Parallel()
	err := error(&peer.RefusedError{Node: "n", Name: "tks1.example", Detail: "since yesterday", Err: peer.ErrDetached})
	same(t, "text", err.Error(), "peer tks1.example (n): detached from the array: since yesterday")
	if !errors.Is(err, peer.ErrDetached) {
		t.Error("it does not unwrap")
	}
	remote := error(&peer.RemoteError{Status: 409, Code: "busy", Detail: "x is joining"})
	refused(t, "remote", remote, peer.ErrBusy)
	same(t, "remote text", remote.Error(), "the other node refused (409): x is joining")
	same(t, "with port", peer.WithPort("tps1.example"), "tps1.example:8444")
	same(t, "with its port", peer.WithPort("[::1]:9"), "[::1]:9")
}
