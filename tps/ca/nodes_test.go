package ca_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/store"
)

// TestNodes runs one authority on two nodes.
func TestNodes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inkan.db")
	open := func() ca.Store {
		db, err := store.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db.Authority("embedded")
	}
	twoNodes(t, open(), open())
}

// twoNodes has two nodes with one key and one database issue, revoke and list at
// once: a request has one certificate, a certificate one serial number, a list number
// one list, and what one node has revoked the other one lists.
func twoNodes(t *testing.T, here, there ca.Store) {
	t.Helper()
	first := newAuthority(t, func(c *ca.Config) { c.Store, c.Now = here, time.Now })
	cfg := first.cfg
	cfg.Store = there
	second, err := ca.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*ca.Embedded{first.Embedded, second}
	const requests = 12
	var mu sync.Mutex
	issued, lists := map[string]string{}, map[int64]string{}
	once := func(what string, known map[string]string, key, value string) {
		mu.Lock()
		defer mu.Unlock()
		if was, ok := known[key]; ok && was != value {
			t.Errorf("%s %s is two", what, key)
		}
		known[key] = value
	}
	serials := map[string]string{}
	var wg sync.WaitGroup
	for i := range requests {
		for n, e := range nodes {
			wg.Go(func() {
				id := fmt.Sprint("r", i)
				c, err := e.Issue(t.Context(), request(id, "signing", rsaKey().Public()))
				if err != nil {
					t.Errorf("node %d, %s: %v", n, id, err)
					return
				}
				once("request", issued, id, string(c.DER))
				once("serial number", serials, string(c.Serial), id)
				leaf := parse(t, c.DER)
				if err := e.Revoke(t.Context(), ca.Issuer{Name: leaf.RawIssuer, KeyID: leaf.AuthorityKeyId}, c.Serial, ca.ReasonSuperseded); err != nil {
					t.Errorf("node %d revoking %s: %v", n, id, err)
				}
				crl, err := e.CRL(t.Context())
				if err != nil && !errors.Is(err, ca.ErrUnavailable) { // it keeps changing
					t.Errorf("node %d listing: %v", n, err)
				}
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					if was, ok := lists[crl.Number]; ok && was != string(crl.DER) {
						t.Errorf("list %d is two", crl.Number)
					}
					lists[crl.Number] = string(crl.DER)
				}
			})
		}
	}
	wg.Wait()
	if len(issued) != requests || len(serials) != requests {
		t.Errorf("%d certificates of %d serial numbers, want %d", len(issued), len(serials), requests)
	}
	for n, e := range nodes {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // a node asks the database once a second
			crl, err := e.CRL(t.Context())
			if err == nil && entries(t, crl) == requests {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("node %d lists %d certificates (%v)", n, entries(t, crl), err)
			}
		}
	}
}

// entries is how many certificates a list has.
func entries(t *testing.T, c ca.CRL) int {
	t.Helper()
	l, err := x509.ParseRevocationList(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return len(l.RevokedCertificateEntries)
}
