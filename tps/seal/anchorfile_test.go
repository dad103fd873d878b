package seal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"inkan/tps/seal"
)

// anchored is a sealer whose generations are in anchor.json under these keys.
func (b *bench) anchored(keys ...seal.WrappingKey) *seal.Sealer {
	return b.sealer(func(c *seal.Config) {
		c.AnchorName = seal.AnchorFile
		c.Anchor = seal.NewFileAnchor(b.dir, keyring{b.key}, func(context.Context) ([]seal.WrappingKey, error) { return keys, nil })
	})
}

// TestFileAnchor: what was put back is noticed, and so is any change of anchor.json.
func TestFileAnchor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.anchored(b.key)
	save(t, s, "one", "two")
	wants(t, b.anchored(b.key), "two")
	old := read(t, b.file("inkan.toml.sealed"))
	save(t, s, "three")
	newest := read(t, b.file("inkan.toml.sealed"))
	must(t, os.WriteFile(b.file("inkan.toml.sealed"), old, 0o600))
	refused(t, s, seal.Rollback)
	must(t, os.WriteFile(b.file("inkan.toml.sealed"), newest, 0o600))
	wants(t, s, "three")

	good := read(t, b.file(seal.AnchorName))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		must(t, os.WriteFile(b.file(seal.AnchorName), bad, 0o600))
		o, err := s.Open(t.Context(), role)
		if c := seal.CodeOf(err); c != seal.Damaged && c != seal.Tampered && c != seal.Identity && c != seal.KeyMissing {
			t.Errorf("byte %d of anchor.json altered: %v, %v", i, o, err)
		}
	}
	must(t, os.Remove(b.file(seal.AnchorName)))
	refused(t, s, seal.AnchorBehind)
	_, _, err := s.Adopt(t.Context(), role)
	must(t, err)
	wants(t, s, "three")
	must(t, s.Drop(t.Context(), role))
	if _, err := os.Stat(b.file(seal.AnchorName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty anchor.json stayed: %v", err)
	}
}

// TestFileAnchorUnreadBits: the last digit of base64 has bits that decoding does not look at.
func TestFileAnchorUnreadBits(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.anchored(b.key), "one")
	doc := read(t, b.file(seal.AnchorName))
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := bytes.LastIndex(doc, []byte(`="`)) - 1
	doc[at] = digits[bytes.IndexByte([]byte(digits), doc[at])|1]
	must(t, os.WriteFile(b.file(seal.AnchorName), doc, 0o600))
	refused(t, b.anchored(b.key), seal.Damaged)
}

// TestFileAnchorRotates: while both keys count, either opens anchor.json.
func TestFileAnchorRotates(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old, fresh := b.key, newKey("tms:seal:00112233:v02", 9)
	save(t, b.anchored(old, fresh), "one")
	for _, k := range []*memKey{old, fresh} {
		a := seal.NewFileAnchor(b.dir, keyring{k}, nil)
		if g, err := a.Generation(t.Context(), instance, role); g != 1 || err != nil {
			t.Errorf("%s: %d, %v", k.Describe().Label, g, err)
		}
	}
	a := seal.NewFileAnchor(b.dir, keyring{newKey("tms:seal:00112233:v03", 1)}, nil)
	if _, err := a.Generation(t.Context(), instance, role); !errors.Is(err, seal.KeyMissing) {
		t.Errorf("by a key it was not written for: %v", err)
	}
}

// TestAnotherAnchor: who changes seal.toml cannot choose where generations are looked
// up.
func TestAnotherAnchor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.anchored(b.key), "one")
	for _, name := range []string{seal.AnchorHSM, seal.AnchorDB, seal.AnchorNone} {
		refused(t, b.sealer(func(c *seal.Config) { c.Anchor, c.AnchorName = nil, name }), seal.Tampered)
	}
}

func FuzzAnchorFile(f *testing.F) {
	b := newBench(f)
	save(f, b.anchored(b.key), "one")
	f.Add(read(f, b.file(seal.AnchorName)))
	f.Add([]byte(`{}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, doc []byte) {
		must(t, os.WriteFile(dir+"/"+seal.AnchorName, doc, 0o600))
		a := seal.NewFileAnchor(dir, keyring{b.key}, nil)
		if g, err := a.Generation(t.Context(), instance, role); err != nil && seal.CodeOf(err) == "" || err == nil && g > 1 {
			t.Errorf("generation %d, %v", g, err)
		}
	})
}
