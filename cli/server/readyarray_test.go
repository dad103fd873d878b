package server_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"inkan/cli/server"
	"inkan/tps/peer"
)

// TestCertificateState: a peer certificate is renewed at a third of its life; until then
// nothing is said but where that has failed.
func TestCertificateState(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := &x509.Certificate{NotBefore: end.Add(-100 * time.Hour), NotAfter: end}
	for _, k := range []struct {
		left    time.Duration
		renewal string
		want    string
	}{
		{90 * time.Hour, "", "ok"}, {90 * time.Hour, "since then: no answer", "ok"}, {49 * time.Hour, "", "ok"},
		{49 * time.Hour, "since then: no answer", "less than 50% of its life is left; it was not renewed since then: no answer"},
		{24 * time.Hour, "", "less than 25%"}, {9 * time.Hour, "since then: no answer", "less than 10%"},
		{-time.Hour, "since then: no answer", "expired on 2026-11-22T12:00:00Z: join the array again with an invite; it was not renewed"},
	} {
		got := server.CertificateState(c, k.renewal, end.Add(-k.left))
		if got != k.want && (k.want == "ok" || !strings.Contains(got, k.want)) {
			t.Errorf("%v left, %q: %q, want %q", k.left, k.renewal, got, k.want)
		}
	}
}

// TestArrayParts: the state of the array in its word, and clocks that are wrong.
func TestArrayParts(t *testing.T) {
	t.Parallel()
	member := func(name string, offset time.Duration, err error) peer.MemberStatus {
		return peer.MemberStatus{Member: peer.Member{Node: name, Name: name}, Offset: offset, Err: err}
	}
	good := server.ArrayParts(peer.Status{Word: peer.Converged, Members: []peer.MemberStatus{member("a", 0, nil), member("b", -4*time.Second, nil)}}, "a")
	if len(good) != 1 || good["array"] != "ok" {
		t.Errorf("%v", good)
	}
	bad := server.ArrayParts(peer.Status{Word: peer.Unreachable, Why: "c: no answer", Members: []peer.MemberStatus{
		member("a", 0, nil), member("b", -6*time.Second, nil), member("c", time.Hour, errors.New("no answer")),
	}}, "a")
	if len(bad) != 2 || bad["array"] != "unreachable: c: no answer" || !strings.HasPrefix(bad["clock of b"], "differs by -6s") {
		t.Errorf("%v", bad)
	}
}
