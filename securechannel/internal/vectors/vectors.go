// Package vectors reads the published test vectors of fixtures/vectors for the
// tests of the secure channel packages.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Hex is a byte string that stands as hexadecimal digits in a vector file.
type Hex []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	if err != nil {
		return fmt.Errorf("decoding %q: %w", t, err)
	}
	*h = b
	return nil
}

// String is lower-case hexadecimal.
func (h Hex) String() string { return hex.EncodeToString(h) }

// Byte is a Hex of one byte; it panics on any other, as a vector file that
// names an option or a level in two bytes is a broken file.
func (h Hex) Byte() byte {
	if len(h) != 1 {
		panic(fmt.Sprintf("vector field %q is not one byte", h))
	}
	return h[0]
}

// Load decodes all vectors of file name, such as "scp02.json".
func Load[T any](tb testing.TB, name string) []T {
	tb.Helper()
	return decode[T](tb, name, func(string) bool { return true })
}

// LoadKind decodes the vectors of file name whose field kind is kind. It fails
// the test when there is none.
func LoadKind[T any](tb testing.TB, name, kind string) []T {
	tb.Helper()
	return decode[T](tb, name, func(k string) bool { return k == kind })
}

func decode[T any](tb testing.TB, name string, want func(kind string) bool) []T {
	tb.Helper()
	_, here, _, _ := runtime.Caller(0)
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "fixtures", "vectors", name))
	if err != nil {
		tb.Fatal(err)
	}
	var f struct {
		Count   int
		Vectors []json.RawMessage
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if len(f.Vectors) != f.Count {
		tb.Fatalf("%s: %d vectors, the file says %d", name, len(f.Vectors), f.Count)
	}
	var out []T
	for i, r := range f.Vectors {
		var k struct{ Kind string }
		var v T
		if err := json.Unmarshal(r, &k); err != nil {
			tb.Fatalf("%s: vector %d: %v", name, i, err)
		}
		if !want(k.Kind) {
			continue
		}
		if err := json.Unmarshal(r, &v); err != nil {
			tb.Fatalf("%s: vector %d: %v", name, i, err)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		tb.Fatalf("%s: no such vector", name)
	}
	return out
}
