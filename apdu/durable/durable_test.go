package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"inkan/apdu/durable"
)

var errDisk = errors.New("the disk fails")

// steps of a replacement whose content is written in two pieces.
var steps = []string{"write", "write", "sync", "rename", "sync folder"}

func TestReplaceFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, target := filepath.Join(dir, "f"), filepath.Join(dir, "target")
	must(t, os.WriteFile(target, []byte("kept"), 0o600))
	if err := os.Symlink(target, path); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		want := mode.String()
		must(t, durable.ReplaceFile(path, []byte(want), mode))
		same(t, "content", read(t, path), want)
		st, err := os.Lstat(path)
		must(t, err)
		if runtime.GOOS != "windows" && st.Mode() != mode {
			t.Errorf("mode %v, want %v", st.Mode(), mode)
		}
	}
	same(t, "what a link pointed to", read(t, target), "kept")
	if err := durable.ReplaceFile(dir, nil, 0o600); err == nil { // a folder is in the way
		t.Error("replaced a folder")
	}
	if err := durable.ReplaceFile(filepath.Join(dir, "none", "f"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("wrote into no folder: %v", err)
	}
	same(t, "files", names(t, dir), []string{"f", "target"})
}

// TestCutReplacement takes a copy of the folder before every step, which is what a
// cut there leaves: the old file until the rename, the new one after it, never
// anything between them.
func TestCutReplacement(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	var cuts, got []string
	r, err := durable.BeginSteps(path, 0o600, func(step string) error {
		cut := t.TempDir()
		cuts, got = append(cuts, cut), append(got, step)
		return os.CopyFS(cut, os.DirFS(dir))
	})
	must(t, err)
	replace(t, r, nil)
	same(t, "steps", got, steps)
	for i, cut := range cuts {
		path, want := filepath.Join(cut, "f"), "old"
		if steps[i] == "sync folder" {
			want = "newer"
		}
		same(t, "cut at "+steps[i], read(t, path), want)
		must(t, os.WriteFile(filepath.Join(cut, ".g.new-1"), nil, 0o600)) // another file's
		must(t, durable.RemoveTemps(path))
		same(t, "files after a cut at "+steps[i], names(t, cut), []string{".g.new-1", "f"})
		must(t, durable.ReplaceFile(path, []byte("next"), 0o600))
		same(t, "again after a cut at "+steps[i], read(t, path), "next")
	}
}

// TestFailingDisk: the file stays what it was, and nothing lies beside it.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for n, fails := range steps {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		must(t, os.WriteFile(path, []byte("old"), 0o600))
		i := -1
		r, err := durable.BeginSteps(path, 0o600, func(string) error {
			if i++; i == n {
				return errDisk
			}
			return nil
		})
		must(t, err)
		replace(t, r, errDisk)
		want := "old"
		if fails == "sync folder" { // in place already
			want = "newer"
		}
		same(t, "after failing to "+fails, read(t, path), want)
		same(t, "files after failing to "+fails, names(t, dir), []string{"f"})
	}
}

// replace writes in two pieces and ends as a caller does.
func replace(t *testing.T, r *durable.Replacement, want error) {
	t.Helper()
	_, err := r.Write([]byte("ne"))
	if err == nil {
		_, err = r.Write([]byte("wer"))
	}
	if err == nil {
		err = r.Commit()
	}
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	must(t, r.Discard())
	must(t, r.Discard()) // no matter how often
}

func TestRemove(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, durable.Remove(path))
	must(t, durable.Remove(path))
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestCheckPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	must(t, os.WriteFile(path, nil, 0o600))
	check := func(path string) error {
		f, err := os.Open(path)
		must(t, err)
		defer f.Close()
		return durable.CheckPrivate(f)
	}
	must(t, check(path))
	if check(dir) == nil {
		t.Error("a folder passed")
	}
	must(t, os.Chmod(path, 0o640))
	if check(path) == nil && runtime.GOOS != "windows" {
		t.Error("a file that the group may read passed")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
