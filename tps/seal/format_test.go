package seal_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/seal"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func TestVector(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		key := &memKey{label: v.Slot.Label, token: v.Slot.Token, id: unhex(t, v.Slot.ID), key: unhex(t, v.Slot.Key), nonce: unhex(t, v.Slot.IV)}
		h := seal.Header{Instance: v.Instance, Role: v.Role, Generation: v.Generation, SealedAt: time.Unix(v.SealedAt, 0), ContentType: v.ContentType}
		if got := fmt.Sprintf("%X", seal.Binding(h, 1)); got != v.Binding {
			t.Errorf("binding %s, want %s", got, v.Binding)
		}
		b, err := seal.Fixed(t.Context(), h, unhex(t, v.Nonce), secret.New(unhex(t, v.DataKey)), unhex(t, v.Plaintext), seal.Under(key))
		must(t, err)
		if got := fmt.Sprintf("%X", b); got != v.File {
			t.Errorf("file\n%s, want\n%s", got, v.File)
		}
		f, err := seal.Parse(b)
		must(t, err)
		s := f.Slots[0]
		if got := fmt.Sprintf("%X", f.Hash); got != v.SHA256 || seal.HeaderLength(b) != v.Header || fmt.Sprintf("%X", s.Wrapped()) != v.Wrapped ||
			fmt.Sprintf("%X", s.KCV) != v.Slot.KCV || s.Serial != v.Slot.Serial || f.Generation != v.Generation || f.SealedAt.Unix() != v.SealedAt {
			t.Errorf("parsed %+v, hash %s", f.Header, got)
		}
		opens(t, b, key, v)
	}
}

// opens puts the file of a vector into a folder and opens it.
func opens(t *testing.T, b []byte, key *memKey, v vector) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, v.Role.File()), b, 0o600))
	s := seal.New(seal.Config{Dir: dir, Instance: v.Instance, Openers: []seal.Opener{seal.With(keyring{key})}})
	o, err := s.Open(t.Context(), v.Role)
	must(t, err)
	if got := o.Bytes(); !bytes.Equal(got, unhex(t, v.Plaintext)) {
		t.Errorf("opened %q", got)
	}
}

// flips checks that a sealer refuses a file with each bit of it turned, with one of
// the codes; made makes what is written of the altered bytes.
func flips(t *testing.T, b *bench, step int, made func([]byte) []byte, codes ...seal.Code) {
	t.Helper()
	good := read(t, b.file(role.File()))
	s := b.sealer()
	for bit := 0; bit < 8*len(good); bit += step {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		must(t, os.WriteFile(b.file(role.File()), made(bad), 0o600))
		o, err := s.Open(t.Context(), role)
		if o != nil || err == nil {
			t.Fatalf("bit %d of byte %d turned: opened %v, %v", bit%8, bit/8, o, err)
		}
		code := seal.CodeOf(err)
		if !contains(codes, code) {
			t.Errorf("bit %d of byte %d turned: %v", bit%8, bit/8, err)
		}
	}
	must(t, os.WriteFile(b.file(role.File()), good, 0o600))
	wants(t, s, "three")
}

func contains(codes []seal.Code, c seal.Code) bool {
	for _, o := range codes {
		if o == c {
			return true
		}
	}
	return false
}

// TestEveryBit: whoever turns any one bit is found out.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.sealer(), "one", "two", "three")
	flips(t, b, 1, func(x []byte) []byte { return x }, seal.Damaged)
}

// TestEveryForgedBit: also where he mends the check sum.
func TestEveryForgedBit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	identity, recipient, err := seal.NewRecoveryKey()
	must(t, err)
	identity.Wipe()
	toAge, err := seal.ForAge(recipient)
	must(t, err)
	s := b.sealer(func(c *seal.Config) { c.Slots = append(c.Slots, toAge) })
	save(t, s, "one", "two", "three")
	good := read(t, b.file(role.File()))
	flips(t, b, 5, func(x []byte) []byte {
		if !bytes.Equal(x[len(x)-32:], good[len(good)-32:]) {
			return x
		}
		return seal.Retrail(x)
	}, seal.Damaged, seal.Version, seal.Identity, seal.Tampered, seal.WrongKey, seal.KeyMissing, seal.Rollback, seal.AnchorBehind, seal.Expired)
}

// TestEveryLength: a file cut anywhere is no sealed configuration, and says so.
func TestEveryLength(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.sealer(), "three")
	good := read(t, b.file(role.File()))
	for n := range good {
		must(t, os.WriteFile(b.file(role.File()), good[:n], 0o600))
		_, err := b.sealer().Open(t.Context(), role)
		if !errors.Is(err, seal.Damaged) || !strings.Contains(err.Error(), "not a valid sealed configuration") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, more := range []string{"\n", "x"} {
		must(t, os.WriteFile(b.file(role.File()), append(bytes.Clone(good), more...), 0o600))
		refused(t, b.sealer(), seal.Damaged)
	}
}

// FuzzParse: no bytes make the parser panic, and what it takes has what a caller
// relies on.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.File))
	}
	f.Add([]byte("[tps]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, in := range [][]byte{b, mended(b)} {
			file, err := seal.Parse(in)
			if err != nil {
				if seal.CodeOf(err) == "" {
					t.Fatalf("no code: %v", err)
				}
				continue
			}
			if file.Role.Check() != nil || file.Generation == 0 || len(file.Slots) == 0 || file.Size > seal.MaxPlaintext {
				t.Fatalf("took %+v", file.Header)
			}
		}
	})
}

// mended has the check sum that it needs.
func mended(b []byte) []byte {
	if len(b) < 32 {
		return b
	}
	return seal.Retrail(b)
}
