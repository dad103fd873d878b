package loadfile

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"inkan/apdu/gp"
)

const maxArchiveEntries = 4096

// readCAP puts the components of a CAP archive in load order, Debug and custom
// components left out. Component files lie in one folder …/javacard/.
func readCAP(b []byte) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	if len(z.File) > maxArchiveEntries {
		return nil, fmt.Errorf("archive of %d files, at most %d", len(z.File), maxArchiveEntries)
	}
	files := map[string]*zip.File{}
	for _, f := range z.File {
		dir, name := path.Split(f.Name)
		if path.Base(dir) != "javacard" || !strings.HasSuffix(name, ".cap") {
			continue
		}
		if files[name] != nil {
			return nil, fmt.Errorf("archive has %s twice", name)
		}
		files[name] = f
	}
	var code []byte
	for _, tag := range loadOrder {
		f := files[tag.String()+".cap"]
		if f == nil {
			continue
		}
		c, err := inflate(f, tag, gp.MaxCode-len(code))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		code = append(code, c...)
	}
	if len(code) == 0 {
		return nil, errors.New("archive has no javacard/Header.cap")
	}
	return code, nil
}

// inflate reads one component file of at most limit bytes and checks that it is
// what its name says, whole and nothing more.
func inflate(f *zip.File, tag Tag, limit int) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("more than %d bytes of code", gp.MaxCode)
	}
	if len(b) < 3 || Tag(b[0]) != tag || int(b[1])<<8|int(b[2]) != len(b)-3 {
		return nil, fmt.Errorf("no component %v", tag)
	}
	return b, nil
}
