package sealing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/seal"
)

// readPINSource reads a PIN or passphrase from where seal.toml says.
func readPINSource(source, what string, o Options) (secret.Secret, error) {
	kind, value, _ := strings.Cut(source, ":")
	switch kind {
	case "prompt":
		if o.PIN == nil {
			return secret.Secret{}, fmt.Errorf("%s is to be typed, and nobody can be asked", what)
		}
		return o.PIN(what)
	case "file":
		return readPINFile(value, 0o077)
	case "cred":
		path, err := credentialFile(value)
		if err != nil {
			return secret.Secret{}, err
		}
		return readPINFile(path, credentialOthers)
	case "fd":
		n, err := strconv.Atoi(value)
		if err != nil {
			return secret.Secret{}, err
		}
		f := os.NewFile(uintptr(n), source)
		if f == nil {
			return secret.Secret{}, fmt.Errorf("file descriptor %d is not open", n)
		}
		defer f.Close()
		return firstLine(f, source)
	}
	return secret.Secret{}, seal.CheckPINSource(source)
}

// readPINFile reads the first line of a file that has no mode of others.
func readPINFile(path string, others os.FileMode) (secret.Secret, error) {
	f, err := openPrivate(path, others)
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	return firstLine(f, path)
}

// openPrivate opens a file that has no mode of others.
func openPrivate(path string, others os.FileMode) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&others != 0 {
		err = fmt.Errorf("%s has mode %04o: others may read it; chmod 0400 it", path, st.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readAtMost reads a whole file that is not longer than most.
func readAtMost(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		clear(b)
		return nil, fmt.Errorf("it has more than %d bytes", most)
	}
	return b, err
}

func firstLine(r io.Reader, name string) (secret.Secret, error) {
	b, err := readAtMost(r, 1024)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("reading %s: %w", name, err)
	}
	defer clear(b)
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	if len(line) == 0 {
		return secret.Secret{}, fmt.Errorf("%s holds no PIN", name)
	}
	return secret.New(bytes.Clone(line)), nil
}
