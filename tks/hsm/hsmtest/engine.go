package hsmtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/engine.c
var engineSource []byte

// Engine describes a PKCS #11 engine by what it lacks, compared with SoftHSM.
type Engine struct {
	Name string // what the module calls itself, at most 32 characters
	// Mechanisms that it does not have, by PKCS #11 number.
	Encrypt, Sign, Generate, Wrap, Unwrap, Derive []uint

	KeyTypes []uint // CKK_ that it does not know
	Create   []uint // CKO_ of which C_CreateObject makes none
}

// Open makes a token of SoftHSM behind a module that lacks what e says: as real as
// SoftHSM, and as poor as another maker's.
func (e Engine) Open(t testing.TB) SoftToken {
	t.Helper()
	s := SoftHSM(t)
	s.Module = e.Module(t, s.Module)
	s.URI = fmt.Sprintf("pkcs11:token=%s?module-path=%s&pin-source=file:%s", s.Label, s.Module, s.PINFile)
	return s
}

// Module compiles with cc a module in front of the one at inner, and returns its path.
func (e Engine) Module(t testing.TB, inner string) string {
	t.Helper()
	dir := t.TempDir()
	source, module := filepath.Join(dir, "engine.c"), filepath.Join(dir, "engine.so")
	if err := os.WriteFile(source, engineSource, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cc", "-shared", "-fPIC", "-O1", "-DMODULE="+strconv.Quote(inner), "-DNAME="+strconv.Quote(e.Name),
		"-DRULES="+e.rules(), "-o", module, source, "-ldl")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling the module: %v: %s", err, out)
	}
	return module
}

// rules is the table of testdata/engine.c.
func (e Engine) rules() string {
	var b strings.Builder
	for _, r := range []struct {
		what    byte
		numbers []uint
	}{{'e', e.Encrypt}, {'s', e.Sign}, {'g', e.Generate}, {'w', e.Wrap}, {'u', e.Unwrap}, {'d', e.Derive}, {'k', e.KeyTypes}, {'c', e.Create}} {
		for _, n := range r.numbers {
			fmt.Fprintf(&b, "{'%c',%#xUL},", r.what, n)
		}
	}
	return b.String()
}
