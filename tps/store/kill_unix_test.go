//go:build unix

package store_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"inkan/apdu"
	"inkan/tps/store"
	"inkan/tps/token"
)

// TestKilled runs itself as a process that writes until it is killed: whatever
// it had said was written is there.
func TestKilled(t *testing.T) {
	t.Parallel()
	if path := os.Getenv("INKAN_TEST_KILLED"); path != "" {
		writeForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "inkan.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "INKAN_TEST_KILLED="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []apdu.CUID
	for lines := bufio.NewScanner(out); lines.Scan(); {
		c, err := apdu.ParseCUID(lines.Text())
		if err != nil {
			t.Errorf("the other process said %q", lines.Text())
			break
		}
		if said = append(said, c); len(said) == 50 {
			cmd.Process.Kill() // what it said before dying is still read
		}
	}
	cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || len(said) < 50 {
		t.Fatalf("killed after %d writes: %v", len(said), err)
	}
	db := openDB(t, path)
	for _, c := range said {
		if _, err := db.Token(t.Context(), c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func writeForEver(t *testing.T, path string) {
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(0); ; n++ {
		var c apdu.CUID
		binary.BigEndian.PutUint64(c[2:], n)
		if _, err := db.CreateToken(t.Context(), token.Token{CUID: c}); err != nil {
			t.Fatal(err)
		}
		fmt.Println(c)
	}
}
