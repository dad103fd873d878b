package cli_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms are the packages there are (design.md §1), and which of ours each may
// import: the names or, with /..., everything below. A package that is not here
// fails the test, and so does a line whose package is gone.
var rooms = map[string][]string{
	"apdu":                {},
	"apdu/durable":        {},
	"apdu/killtest":       {}, // for tests
	"apdu/memtest":        {}, // for tests
	"apdu/secret":         {},
	"apdu/tlv":            {},
	"apdu/gp":             {"apdu", "apdu/tlv"},
	"apdu/gp/loadfile":    {"apdu", "apdu/gp", "apdu/tlv"},
	"apdu/coolkey":        {"apdu", "apdu/internal/pkcs1", "apdu/secret"},
	"apdu/apdutest":       {"apdu", "apdu/gp", "apdu/gp/loadfile", "apdu/tlv"},
	"apdu/piv":            {"apdu", "apdu/internal/pkcs1", "apdu/secret", "apdu/tlv"},
	"apdu/internal/pkcs1": {},
	"securechannel":       {"apdu", "apdu/gp", "apdu/secret", "apdu/tlv", "securechannel/..."},
	"securechannel/scp01": {"apdu/...", "apdu", "securechannel/internal/class", "securechannel/primitive"},
	"securechannel/scp02": {"apdu/...", "apdu", "securechannel/internal/class", "securechannel/primitive"},
	"securechannel/scp03": {"apdu/...", "apdu", "securechannel/internal/class", "securechannel/primitive"},
	// the class byte; the vectors' form, for tests
	"securechannel/internal/class":   {"apdu"},
	"securechannel/internal/vectors": {"apdu", "apdu/gp", "apdu/secret"},
	"securechannel/primitive":        {"apdu/gp"},
	"securechannel/keyset":           {"apdu", "apdu/gp", "apdu/secret", "apdu/tlv", "securechannel/primitive"},
	"pcsc":                           {"apdu"},
	"sim":                            {"apdu", "apdu/durable", "apdu/gp", "apdu/gp/loadfile", "apdu/piv", "apdu/secret", "apdu/tlv", "securechannel", "sim/gp", "sim/coolkey", "sim/piv"},
	"sim/gp":                         {"apdu", "apdu/gp", "apdu/gp/loadfile", "apdu/secret", "apdu/tlv", "securechannel", "securechannel/..."},
	"sim/coolkey":                    {"apdu", "apdu/coolkey", "apdu/gp", "apdu/gp/loadfile", "apdu/secret", "securechannel", "securechannel/...", "sim/gp", "sim/internal/rawrsa"},
	"sim/piv":                        {"apdu", "apdu/piv", "apdu/tlv", "securechannel", "sim/gp", "sim/internal/rawrsa"},
	"sim/internal/rawrsa":            {},
	"sim/vpcd":                       {"apdu"},
	"sim/vpcd/vpcdtest":              {"sim/vpcd"},
	"tks":                            {"apdu", "apdu/gp", "apdu/secret", "securechannel"},
	"tks/kdf":                        {"apdu", "apdu/gp", "securechannel/primitive"},
	"tks/ceremony":                   {"apdu/secret", "tks/hsm", "tks/kdf"},
	"tks/hsm":                        {"apdu/gp", "apdu/secret", "tks", "tks/kdf"},
	"tks/hsm/hsmtest":                {"apdu/...", "tks/...", "tks", "securechannel/..."},
	"tks/hsm/pkcs11":                 {"apdu", "apdu/gp", "apdu/secret", "tks", "tks/hsm", "tks/kdf", "securechannel/..."},
	"tks/hsm/softkey":                {"apdu/durable", "apdu/gp", "apdu/secret", "tks", "tks/hsm", "tks/hsm/softkey/internal/floor", "tks/kdf", "securechannel/..."},
	// what a passphrase costs at least; the package that lowers it, for tests
	"tks/hsm/softkey/internal/floor": {},
	"tks/hsm/softkey/softkeytest":    {"tks/hsm/softkey", "tks/hsm/softkey/internal/floor"},
	"tks/local":                      {"apdu", "apdu/durable", "apdu/gp", "apdu/secret", "securechannel", "securechannel/...", "tks", "tks/hsm", "tks/kdf"},
	"tks/remote":                     {"apdu", "apdu/gp", "apdu/secret", "securechannel", "tks", "tks/hsm", "tks/local"}, // local for its ledger
	"tks/remote/remotetest":          {},
	"tks/tkstest":                    {"apdu", "apdu/gp", "apdu/secret", "securechannel", "securechannel/...", "tks", "tks/..."},
	"tps":                            {"apdu", "apdu/gp", "apdu/secret", "securechannel", "tks", "tps/audit", "tps/auth", "tps/ca", "tps/profile", "tps/token"},
	"tps/coolkey":                    {"apdu", "apdu/coolkey", "apdu/gp", "apdu/gp/loadfile", "apdu/secret", "securechannel", "tps", "tps/profile"},
	"tps/piv":                        {"apdu", "apdu/gp", "apdu/gp/loadfile", "apdu/piv", "apdu/secret", "tks", "tps", "tps/ca", "tps/piv/attest", "tps/profile", "tps/token"},
	"tps/piv/attest":                 {"apdu", "apdu/piv"},
	"tps/wire":                       {"apdu", "apdu/durable", "apdu/secret", "tps/auth"},
	"tps/token":                      {"apdu", "apdu/gp", "tks"},
	"tps/profile":                    {"apdu", "apdu/secret", "tks", "tps/auth", "tps/token"},
	"tps/store":                      {"apdu", "apdu/gp", "apdu/secret", "tks", "tps/audit", "tps/auth", "tps/ca", "tps/internal/group", "tps/profile", "tps/realm", "tps/token"},
	"tps/store/storetest":            {"apdu", "apdu/gp", "tks", "tps/audit", "tps/auth", "tps/ca", "tps/ca/catest", "tps/profile", "tps/realm", "tps/token"},
	"tps/store/storetest/pgtest":     {}, // a server for tests
	"tps/auth":                       {"apdu", "apdu/secret", "tps/token"},
	"tps/ca":                         {"apdu", "tps/token"},
	"tps/ca/catest":                  {"apdu", "tps/ca", "tps/token"},
	"tps/audit":                      {"apdu/durable", "tps/internal/group"},
	"tps/realm":                      {"apdu", "apdu/secret", "tps/audit", "tps/auth", "tps/token"},
	"tps/realm/client":               {"tps/realm"},
	"tps/realm/realmtest":            {"tps/realm"},
	"tps/internal/group":             {},
	"tps/seal":                       {"apdu/durable", "apdu/secret"},
	"tps/peer":                       {"apdu/durable", "apdu/secret", "tps/seal", "tps/token", "tps/wire"},
	"tps/api":                        {"apdu", "apdu/gp", "apdu/secret", "tks", "tps", "tps/audit", "tps/auth", "tps/ca", "tps/piv/attest", "tps/profile", "tps/realm", "tps/token"},
	"cli":                            {"apdu/...", "apdu", "cli/...", "pcsc", "sim", "sim/vpcd", "tks", "tks/ceremony", "tks/hsm", "tks/hsm/softkey", "tps/...", "tps"},
	"cli/bench":                      {}, // tests only
	"cli/config":                     {"apdu", "tks", "tks/hsm", "tks/remote", "tps/realm", "tps/store", "tps/token", "tps/wire"},
	"cli/server":                     {"apdu", "apdu/durable", "apdu/gp", "apdu/secret", "cli/config", "cli/sealing", "fixtures", "tks", "tks/...", "tps", "tps/..."},
	"cli/sealing":                    {"apdu/durable", "apdu/secret", "cli/config", "tks", "tks/...", "tps/audit", "tps/seal", "tps/store"},
	"cli/kiosk":                      {"apdu", "apdu/secret", "cli/station", "pcsc", "tps/auth", "tps/wire"},
	"cli/station":                    {"apdu", "apdu/coolkey", "apdu/gp", "apdu/piv", "apdu/secret", "pcsc", "sim", "tps/ca", "tps/wire"},
	"cli/manager":                    {"apdu", "apdu/gp", "apdu/gp/loadfile", "apdu/secret", "securechannel", "securechannel/..."},
	"cli/inkan":                      {"cli"},
	"fixtures":                       {},
	"fixtures/gen":                   {"apdu/gp/loadfile"},
}

// bans say why, for the imports somebody might want most.
var bans = []struct{ from, to, why string }{
	{"tps", "tks/local", "the operations know the key service's contract only: it may be another node"},
	{"tps", "tks/hsm", "what tps needs of an HSM is handed in"},
	{"tps/seal", "tks/hsm", "the wrapping key is handed in"},
	{"tps/realm", "tks/hsm", "the vault of its keys is handed in"},
	{"tps/peer", "tks/hsm", "the vault of its CA's keys is handed in"},
	{"tps", "pcsc", "a card may be on another continent"},
	{"tps", "sim", "the software card is for tests and for commands that run one"},
	{"tps", "tps/coolkey", "families are handed in"},
	{"tps", "tps/piv", "families are handed in"},
	{"apdu", "securechannel", "imports go one way"},
	{"tks/remote", "tps/peer", "who calls is handed in"},
	{"tks", "tks/local", "the contract has no implementation"},
}

func TestImports(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "inkan/")
		seen[name] = true
		may, listed := rooms[name]
		if !listed {
			t.Errorf("package %s is not in the list of rooms", name)
			continue
		}
		for _, i := range p.Imports {
			to, ours := strings.CutPrefix(i, "inkan/")
			if to == "tks/hsm/softkey/softkeytest" {
				t.Errorf("%s imports %s: outside tests a passphrase costs what it is to", name, to)
			}
			if !ours || allowed(may, to) {
				continue
			}
			t.Errorf("%s imports %s%s", name, to, why(name, to))
		}
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("room %s does not exist", name)
		}
	}
	for _, b := range bans {
		if allowed(rooms[b.from], b.to) {
			t.Errorf("the list lets %s import %s, but %s", b.from, b.to, b.why)
		}
	}
}

func allowed(may []string, to string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		below, all := strings.CutSuffix(m, "/...")
		return m == to || all && strings.HasPrefix(to, below+"/")
	})
}

func why(from, to string) string {
	for _, b := range bans {
		if b.from == from && b.to == to {
			return ": " + b.why
		}
	}
	return ""
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "inkan/...")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}
