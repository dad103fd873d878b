package sealing

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
		return readPINFile(value)
	case "cred":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return secret.Secret{}, fmt.Errorf("the credential %s is not there: the service needs LoadCredential= or LoadCredentialEncrypted=", value)
		}
		return readPINFile(filepath.Join(dir, value))
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

// readPINFile reads a file that only its owner may read.
func readPINFile(path string) (secret.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Secret{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return secret.Secret{}, err
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return secret.Secret{}, fmt.Errorf("%s has mode %04o: others may read it; chmod 0400 it", path, st.Mode().Perm())
	}
	return firstLine(f, path)
}

func firstLine(r io.Reader, name string) (secret.Secret, error) {
	const most = 1024
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return secret.Secret{}, fmt.Errorf("reading %s: %w", name, err)
	}
	defer clear(b)
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	if len(line) == 0 || len(b) > most {
		return secret.Secret{}, fmt.Errorf("%s holds no PIN", name)
	}
	return secret.New(bytes.Clone(line)), nil
}
