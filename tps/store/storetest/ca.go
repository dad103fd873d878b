package storetest

import (
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tps/ca"
	"inkan/tps/token"
)

func keySet(s string) tks.KeySetName { return tks.KeySetName(s) }

func keyVersion(v byte) gp.KeyVersion { return gp.KeyVersion(v) }

// second is at without nanoseconds, in UTC: certificates know no more.
func second(n int) time.Time { return at(n).UTC().Truncate(time.Second) }

func issued(id, serial string) ca.Issued {
	return ca.Issued{RequestID: id, Serial: ca.Serial(serial), Profile: "signing", KeyHash: []byte{1, 2}, TBS: []byte{0x30, 0},
		NotAfter: second(30), Created: second(1)}
}

// testAuthorities: two of them do not see each other's records.
func testAuthorities(t *testing.T, s Stores) {
	ctx, a, b := t.Context(), s.Authority("a"), s.Authority("b")
	is(t, "of a", a.CreateIssued(ctx, issued("r", "0A")), nil)
	is(t, "revoke", a.SetRevocation(ctx, "0A", ca.Revocation{At: second(1)}), nil)
	is(t, "list", a.PutCRL(ctx, ca.CRL{Number: 1}), nil)
	_, err := b.IssuedBySerial(ctx, "0A")
	is(t, "a's serial", err, token.ErrNotFound)
	entries, change, err := b.Revoked(ctx, time.Time{})
	if len(entries) != 0 || change != 0 || err != nil {
		t.Errorf("b's revocations: %v, %d, %v", entries, change, err)
	}
	is(t, "same names", b.CreateIssued(ctx, issued("r", "0A")), nil)
	is(t, "b's first list", b.PutCRL(ctx, ca.CRL{Number: 1}), nil)
}
