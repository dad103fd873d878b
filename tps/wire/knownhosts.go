package wire

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"inkan/apdu/durable"
)

// KnownHosts is a text file of certificates that a person has accepted, one line
// per server:
//
//	host:port SHA256:AB:CD:… BASE64-OF-THE-DER
//
// Empty lines and lines that begin with # are kept and ignored. The fingerprint
// is there to be read by people; the certificate decides, and a line where the
// two differ is an error.
type KnownHosts struct {
	File string // created with its folder, readable by its owner only
}

// Lookup returns the certificate accepted for addr (host:port), nil if there is
// none.
func (k KnownHosts) Lookup(addr string) (*x509.Certificate, error) {
	b, err := os.ReadFile(k.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading known servers: %w", err)
	}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		f := strings.Fields(string(line))
		if len(f) == 0 || !strings.EqualFold(f[0], addr) {
			continue
		}
		c, err := parseKnown(f)
		if err != nil {
			return nil, fmt.Errorf("known servers, %s line %d: %w", k.File, n, err)
		}
		return c, nil
	}
	return nil, nil
}

func parseKnown(f []string) (*x509.Certificate, error) {
	if len(f) != 3 {
		return nil, errors.New("want address, fingerprint and certificate")
	}
	want, err := ParseFingerprint(f[1])
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil {
		return nil, fmt.Errorf("decoding certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("decoding certificate: %w", err)
	}
	if FingerprintOf(c) != want {
		return nil, errors.New("fingerprint and certificate differ")
	}
	return c, nil
}

// Accept records c for addr, in place of an earlier certificate. The file is
// replaced as a whole, so a crash leaves the old or the new one.
func (k KnownHosts) Accept(addr string, c *x509.Certificate) error {
	if strings.ContainsAny(addr, " \t\r\n#") || addr == "" {
		return errors.New("accepting a server: malformed address")
	}
	old, err := os.ReadFile(k.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading known servers: %w", err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(old) {
		if f := strings.Fields(string(line)); len(f) == 0 || !strings.EqualFold(f[0], addr) {
			fmt.Fprintln(&out, strings.TrimRight(string(line), "\r\n"))
		}
	}
	fmt.Fprintf(&out, "%s %v %s\n", addr, FingerprintOf(c), base64.StdEncoding.EncodeToString(c.Raw))
	err = os.MkdirAll(filepath.Dir(k.File), 0o700)
	if err == nil {
		err = durable.ReplaceFile(k.File, out.Bytes(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping known servers: %w", err)
	}
	return nil
}
