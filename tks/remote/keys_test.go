package remote_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/remote"
)

func print(masters ...remote.MasterPrint) remote.Fingerprint {
	return remote.Fingerprint{Masters: masters, Signers: []remote.SignerPrint{{Label: "tms:ca:inkan:v01", ID: "AA"}}, Authority: "PEM"}
}

// TestDifferences: what two nodes do not have alike is said, in both directions.
func TestDifferences(t *testing.T) {
	t.Parallel()
	site := remote.MasterPrint{Set: "site", Version: 2, KDF: "kdf3", Diversified: true, KCV: "A1B2C3", Type: "aes-128", Level: "B"}
	other := site
	other.KCV, other.Level = "FFFFFF", "D"
	mac := remote.MasterPrint{Set: "maker", Version: 1, Slot: "mac", KDF: "visa2", Diversified: true, KCV: "000001"}
	roll := print(site)
	roll.Signers = append(roll.Signers, remote.SignerPrint{Label: "tms:ca:inkan:v02", ID: "BB"})
	alien := print(site)
	alien.Signers = []remote.SignerPrint{{Label: "tms:ca:inkan:v01", ID: "CC"}}
	for name, c := range map[string]struct {
		a, b remote.Fingerprint
		want []string
	}{
		"same":    {print(site), print(site), nil},
		"nothing": {remote.Fingerprint{}, remote.Fingerprint{}, nil},
		"value":   {print(site), print(other), []string{"key set site version 02: aes-128, check value A1B2C3, diversification kdf3 at a, aes-128, check value FFFFFF, diversification kdf3 at b"}},
		"missing": {print(site, mac), print(site), []string{"key set maker version 01 mac: a has it, b has not"}},
		"more":    {print(site), print(mac, site), []string{"key set maker version 01 mac: b has it, a has not"}},
		"chain":   {print(site), remote.Fingerprint{Masters: print(site).Masters, Signers: print(site).Signers}, []string{"the certificates of the authority: other ones at a than at b, though for the same keys"}},
		"CA":      {roll, alien, []string{"key pair tms:ca:inkan:v01: public key AA at a, public key CC at b", "key pair tms:ca:inkan:v02: a has it, b has not"}},
	} {
		if got := remote.Differences("a", c.a, "b", c.b); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if f := print(site, mac); !f.Diversified("site") || f.Diversified("none") || print(site, remote.MasterPrint{Set: "site", Version: 3}).Diversified("site") {
		t.Error("which sets give each card keys of its own")
	}
}

// TestFingerprint asks nodes which keys they have.
func TestFingerprint(t *testing.T) {
	t.Parallel()
	v := newStore(t)
	_, err := v.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, Slot: 1, KDF: 1}, hsm.AES128)
	must(t, err)
	masters, err := v.Masters(t.Context())
	must(t, err)
	want := remote.Fingerprint{Masters: remote.PrintMasters(masters), Authority: "PEM"}
	if len(want.Masters) != 1 || want.Masters[0].KCV != masters[0].KCV.String() || want.Masters[0].Slot == "" {
		t.Fatalf("%+v", want)
	}
	node := direct("tks1", newHandler(t, remote.HandlerConfig{
		Service: &stub{}, Identify: always("tks2", everything()), Keys: func(context.Context) (remote.Fingerprint, error) { return want, nil },
	}))
	c := newClient(t, remote.Config{}, node)
	for _, ask := range []func() (remote.Fingerprint, error){
		func() (remote.Fingerprint, error) { return c.Fingerprint(t.Context()) },
		func() (remote.Fingerprint, error) { return c.FingerprintOf(t.Context(), node) },
	} {
		got, err := ask()
		must(t, err)
		if d := remote.Differences("here", want, "there", got); d != nil || got.Authority != want.Authority {
			t.Errorf("%+v, %q", got, d)
		}
	}
	silent := direct("tks1", newHandler(t, remote.HandlerConfig{Service: &stub{}, Identify: always("tks2", everything())}))
	if _, err := newClient(t, remote.Config{}, silent).Fingerprint(t.Context()); !errors.Is(err, tks.ErrDenied) {
		t.Errorf("%v, want ErrDenied", err)
	}
	if _, err := c.FingerprintOf(t.Context(), through("tks9", refuses)); err == nil {
		t.Error("a node that is not there answered")
	}
}

// TestParseMethod reads each method's name.
func TestParseMethod(t *testing.T) {
	t.Parallel()
	for _, m := range remote.Methods() {
		if got, err := remote.ParseMethod(string(m)); err != nil || got != m {
			t.Errorf("%s: %s, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "RANDOM", "masters", "*"} {
		if _, err := remote.ParseMethod(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
