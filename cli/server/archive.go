package server

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"inkan/apdu/durable"
	"inkan/cli/sealing"
	"inkan/tps/seal"
)

// manifest is the last entry of an archive of a data folder: what has to be in it.
type manifest struct {
	Format  string         `json:"Format"` // manifestFormat
	Program string         `json:"Program"`
	Node    string         `json:"Node"`
	Created time.Time      `json:"Created"`
	Folder  string         `json:"Folder"` // where it was
	Files   []manifestFile `json:"Files"`
}

const (
	manifestFormat = "inkan-folder-1"
	manifestName   = "manifest.json"
	maxManifest    = 16 << 20
)

// manifestFile is one file, by its path in the folder with slashes.
type manifestFile struct {
	Name   string      `json:"Name"`
	Size   int64       `json:"Size"`
	Mode   os.FileMode `json:"Mode"`
	SHA256 string      `json:"SHA256"`
}

// archiver writes a folder as a tar stream.
type archiver struct {
	w *tar.Writer
	m manifest
}

// add writes a file as it is now: what grows meanwhile is left out.
func (a *archiver) add(name, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Size: st.Size(), Mode: int64(st.Mode().Perm()), ModTime: st.ModTime(), Format: tar.FormatPAX}
	if err := a.w.WriteHeader(h); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(a.w, sum), f, st.Size()); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	a.m.Files = append(a.m.Files, manifestFile{name, st.Size(), st.Mode().Perm(), hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// end writes the manifest.
func (a *archiver) end() error {
	b, err := json.MarshalIndent(a.m, "", " ")
	if err != nil {
		return err
	}
	if err := a.w.WriteHeader(&tar.Header{Name: manifestName, Size: int64(len(b)), Mode: 0o600, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = a.w.Write(b)
	return errors.Join(err, a.w.Close())
}

// passing are files that a folder has for the time of a process, or that are copied
// in another way.
func passing(name string) bool {
	base := filepath.Base(name)
	return name == sealing.LockFile || name == SocketFile || base == seal.LockFile || strings.HasSuffix(base, ".lock") ||
		strings.HasPrefix(base, ".s") || strings.HasPrefix(base, ".doctor-") ||
		strings.Contains(base, durable.TempMark) || strings.HasPrefix(base, backupTemp)
}

// filesOf lists the regular files of a folder that a backup has, but for those that
// skip names.
func filesOf(folder string, skip ...string) (out []string, err error) {
	err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // of a running node
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if e.IsDir() {
			if name != "." && passing(name) {
				return filepath.SkipDir
			}
			return nil
		}
		if e.Type().IsRegular() && !passing(name) && !slices.Contains(skip, name) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

// extract writes the files of an archive into an empty folder and checks them
// against its manifest. No file has a name outside of the folder.
func extract(r io.Reader, folder string, step func(string)) (manifest, error) {
	return readEntries(r, func(h *tar.Header, content io.Reader) error {
		step(h.Name)
		return writeEntry(filepath.Join(folder, filepath.FromSlash(h.Name)), content, os.FileMode(h.Mode).Perm())
	})
}

// readArchive hands the files of an archive to look and checks them against its
// manifest.
func readArchive(r io.Reader, look func(name string, content io.Reader) error) (manifest, error) {
	return readEntries(r, func(h *tar.Header, content io.Reader) error { return look(h.Name, content) })
}

// readEntries hands each file of an archive to take, which reads it whole, and checks
// all against the manifest.
func readEntries(r io.Reader, take func(h *tar.Header, content io.Reader) error) (manifest, error) {
	var m manifest
	got := map[string]manifestFile{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err != nil {
			return m, fmt.Errorf("the backup is damaged or cut off: %w", err)
		}
		if h.Name == manifestName {
			b, err := io.ReadAll(io.LimitReader(t, maxManifest))
			if err != nil {
				return m, fmt.Errorf("the backup is damaged or cut off: %w", err)
			}
			if err := json.Unmarshal(b, &m); err != nil || m.Format != manifestFormat {
				return m, errors.New("the backup has no manifest that this program knows")
			}
			if _, err := io.Copy(io.Discard, r); err != nil { // to its authenticated end
				return m, fmt.Errorf("the backup is damaged or cut off: %w", err)
			}
			return m, m.check(got)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(filepath.FromSlash(h.Name)) {
			return m, fmt.Errorf("the backup has an entry %q that is no file of a folder", h.Name)
		}
		if _, twice := got[h.Name]; twice {
			return m, fmt.Errorf("the backup has %s twice", h.Name)
		}
		sum := sha256.New()
		if err := take(h, io.TeeReader(t, sum)); err != nil {
			return m, fmt.Errorf("reading %s: %w", h.Name, err)
		}
		got[h.Name] = manifestFile{Name: h.Name, Size: h.Size, Mode: os.FileMode(h.Mode).Perm(), SHA256: hex.EncodeToString(sum.Sum(nil))}
	}
}

func writeEntry(path string, r io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// check compares what came with what was to come.
func (m manifest) check(got map[string]manifestFile) error {
	var errs []error
	for _, want := range m.Files {
		if got[want.Name] != want {
			errs = append(errs, fmt.Errorf("%s is missing or altered", want.Name))
		}
		delete(got, want.Name)
	}
	for name := range got {
		errs = append(errs, fmt.Errorf("%s is not in the manifest", name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	return nil
}
