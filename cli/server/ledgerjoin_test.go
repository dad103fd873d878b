//go:build unix

package server_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks"
	"inkan/tks/local"
)

// TestLedgerOfNewNode: a node with keys that has joined starts no sooner than it knows
// which cards the others have keyed.
func TestLedgerOfNewNode(t *testing.T) {
	t.Parallel()
	a := newArray(t)
	first := a.folderFor("tks1", config.RoleTKS)
	second := copyFolder(t, first)
	edit(t, second, `"tks1"`, `"tks2"`)
	l, err := local.OpenLedger(filepath.Join(first, server.LedgerFile))
	must(t, err)
	must(t, l.Grant(t.Context(), local.Grant{KDD: gp.KDD{7}, From: local.Target{KeySet: tks.Factory, Version: 0xFF}, To: local.Target{KeySet: "site", Version: 1}, Time: time.Now().UTC()}))
	must(t, l.Close())
	mark := filepath.Join(second, server.LedgerFile+".new")
	must(t, os.WriteFile(mark, nil, 0o600))

	one := a.start("tks1", first, config.RoleTKS)
	one.stop()
	if n, err := server.OpenIn(t.Context(), second, server.Options{}, seat{a, "tks2", a.ca.Client("tks2")}); !errors.Is(err, tks.ErrUnavailable) {
		if err == nil {
			n.Close()
		}
		t.Fatalf("it opens, though nobody has told it: %v", err)
	}
	a.start("tks1", first, config.RoleTKS)
	two := a.start("tks2", second, config.RoleTKS)
	two.stop()
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it would copy the ledger again: %v", err)
	}
	l, err = local.OpenLedger(filepath.Join(second, server.LedgerFile))
	must(t, err)
	defer l.Close()
	if _, ok, err := l.Lookup(t.Context(), gp.KDD{7}); !ok || err != nil {
		t.Errorf("the card is not there: %v", err)
	}
}
