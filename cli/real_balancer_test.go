//go:build unix

package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"inkan/tps/profile"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
)

// TestRealBalancer: three nodes behind haproxy make cards while they are killed and
// restarted one by one, one is stopped, one loses its HSM, and the database is
// restarted. Every card ends well, many by trying again; in the end nothing is half
// done.
func TestRealBalancer(t *testing.T) {
	f := newFleet(t)
	pg := pgtest.Start(t, "fsync=off")
	f.database = pg.Database(t)
	first := f.first(t, "tps1.array.test")
	first.join(t, "tps2.array.test", "tps,tks,console")
	first.join(t, "tps3.array.test", "tps,console")
	db, err := store.OpenPostgres(t.Context(), store.Postgres{URL: f.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	doc := story{set: "site"}.ownersDocument(crowdProfile, 2)
	if _, err := db.PutProfile(t.Context(), profile.Record{Name: crowdProfile, State: profile.Enabled, Document: doc}); err != nil {
		t.Fatal(err)
	}

	unplug, plug := f.nodes[1].ownHSM(t)
	b := f.balance(t, filepath.Join(first.data, "ca", "ca.pem"))
	f.oneLogin(t, b)
	c := newCrowd(t, f, b)
	c.start(t, db, 6)
	kills := 0
	for range 2 {
		for _, n := range f.nodes {
			c.step(t)
			b.busy(t, n)
			n.kill(t)
			kills++
			n.serve(t)
			b.await(t, n, "UP")
		}
	}
	c.step(t)
	b.busy(t, first)
	first.stop(t)
	first.serve(t)
	b.await(t, first, "UP")
	c.step(t)
	unplug(t)
	b.await(t, f.nodes[1], "DOWN")
	c.step(t)
	plug(t)
	b.await(t, f.nodes[1], "UP")
	c.step(t)
	pg.Stop(t)
	pg.Begin(t)
	for _, n := range f.nodes {
		b.await(t, n, "UP")
	}
	c.step(t)
	c.end()

	halfDone := c.check(t, db)
	f.nothingOpen(t, db)
	firstTry, retried := c.counts()
	fmt.Printf("array nodes=%d cards=%d kills=%d stops=1 hsm_losses=1 database_restarts=1 first=%d retried=%d halfdone=%d\n",
		len(f.nodes), len(c.made), kills, firstTry, retried, halfDone)
	if retried == 0 {
		t.Error("no operation was cut: the test shows nothing")
	}
	first.converged(t)
}

// crowdProfile is the profile of the cards.
const crowdProfile = "crowd"

// ownHSM gives the node, from its next start on, a way of its own to the token, and
// returns what cuts that and mends it.
func (n *fleetNode) ownHSM(t *testing.T) (unplug, plug func(*testing.T)) {
	t.Helper()
	way := filepath.Join(n.data, "way-to-token")
	mend := func(t *testing.T) {
		t.Helper()
		if err := os.Symlink(n.hsm.Tokens, way); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(t *testing.T) {
		t.Helper()
		if err := os.Remove(way); err != nil {
			t.Fatal(err)
		}
	}
	mend(t)
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", way)
	n.own = []string{"SOFTHSM2_CONF=" + n.file(t, filepath.Base(n.data)+"-softhsm.conf", conf)}
	return cut, mend
}

// oneLogin expects that who has logged in through haproxy is known to every node.
func (f *fleet) oneLogin(t *testing.T, b *balancer) {
	t.Helper()
	first := f.nodes[0]
	server := []string{"--server", b.url}
	first.run(t, append([]string{"login", "--user", "demo", "--password-file", filepath.Join(f.dir, "password"), "--fingerprint", first.fingerprint}, server...)...)
	for range 2 * len(f.nodes) { // haproxy takes them in turns
		first.run(t, append([]string{"token", "list"}, server...)...)
	}
}

// nothingOpen expects that no operation is unfinished, no card is busy, and no
// certificate is good that nobody has: at the latest once the nodes have swept.
func (f *fleet) nothingOpen(t *testing.T, db *store.DB) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var left []string
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		left = nil
		for what, query := range map[string]string{
			"operation":   "SELECT id FROM journals WHERE ended = ''",
			"lock":        "SELECT cuid FROM locks",
			"certificate": openCertificates,
		} {
			rows, err := conn.Query(t.Context(), query)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			for _, id := range ids {
				left = append(left, what+" "+id)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left open: %s", strings.Join(left, ", "))
			return
		}
	}
}

// openCertificates are those issued for cards that are neither active and on one nor
// revoked, at the authority and in the records alike.
const openCertificates = `SELECT i.serial FROM issued i LEFT JOIN certificates c ON c.serial = i.serial
	WHERE i.profile IN ('signing', 'encryption') AND LENGTH(i.der) > 0
	AND (c.state IS NULL OR c.pending <> '' OR (i.revoked_at <> '') <> (c.state = 'revoked') OR c.state NOT IN ('active', 'revoked'))`
