package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// BootstrapFile is the clear file beside the sealed ones.
const BootstrapFile = "seal.toml"

// Phase says which files of a folder count. The bootstrap file changes whole, so
// the change of a phase is the moment at which a folder becomes sealed, or plain.
type Phase string

// Phases.
const (
	Enabling  Phase = "enabling"  // the plain files count; sealed ones are being made
	Sealed    Phase = "sealed"    // the sealed files count; plain ones are remains
	Disabling Phase = "disabling" // the plain files count; sealed ones are remains
)

// Anchors of the generation.
const (
	AnchorHSM  = "hsm"  // an object in the HSM, or a record of the key file
	AnchorNone = "none" // files that were put back are not noticed
)

// Bootstrap is seal.toml: what has to be known to open the sealed files. It holds
// no secret, and nobody vouches for it.
type Bootstrap struct {
	Instance InstanceID `toml:"instance"`
	Phase    Phase      `toml:"phase"`
	// URI of the token (RFC 7512) whose key seals; empty: the key file does.
	URI       string `toml:"uri"`
	KeyFile   string `toml:"key_file,omitempty"` // without URI: the key file, relative to the folder
	PINSource string `toml:"pin_source"`         // prompt, file:PATH, cred:NAME, fd:N; of a key file: of its passphrase
	Key       string `toml:"key"`                // label of the key that writes use
	Recipient string `toml:"recovery,omitempty"` // age recipient; passphrase; empty: none
	Anchor    string `toml:"anchor"`             // hsm or none
	Roles     []Role `toml:"roles"`
}

// RecoveryPassphrase is the Recipient of folders that a passphrase recovers.
const RecoveryPassphrase = "passphrase"

// maxBootstrap bounds seal.toml, in bytes.
const maxBootstrap = 64 << 10

// LoadBootstrap reads seal.toml of a folder. Its absence is BootstrapMissing where
// there are sealed files; where there are none the error is fs.ErrNotExist without a
// code: the folder is plain.
func LoadBootstrap(dir string) (Bootstrap, error) {
	path := filepath.Join(dir, BootstrapFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		roles, listErr := Roles(dir)
		if len(roles) > 0 {
			return Bootstrap{}, refuse(BootstrapMissing, "", "%s is not there, sealed files are: %q", path, roles)
		}
		if errors.Is(listErr, fs.ErrNotExist) {
			listErr = nil
		}
		return Bootstrap{}, errors.Join(fmt.Errorf("%s: %w", path, fs.ErrNotExist), listErr)
	}
	if err != nil {
		return Bootstrap{}, ofFile("", "reading "+BootstrapFile, err)
	}
	s, err := ParseBootstrap(b)
	if err != nil {
		return s, &Error{Code: Damaged, Cause: fmt.Errorf("%s is not valid: %w", path, err), Hint: BootstrapMissing.Hint()}
	}
	return s, nil
}

// ParseBootstrap decodes and checks the document strictly.
func ParseBootstrap(b []byte) (Bootstrap, error) {
	var s Bootstrap
	if len(b) > maxBootstrap {
		return s, fmt.Errorf("%d bytes", len(b))
	}
	md, err := toml.Decode(string(b), &s)
	if err != nil {
		return s, err
	}
	if u := md.Undecoded(); len(u) > 0 {
		return s, fmt.Errorf("unknown key %s", u[0])
	}
	return s, s.Check()
}

// Check reports what is wrong with the document.
func (s Bootstrap) Check() error {
	switch {
	case s.Instance == InstanceID{}:
		return errors.New("it has no instance")
	case s.Phase != Enabling && s.Phase != Sealed && s.Phase != Disabling:
		return fmt.Errorf("phase %q", s.Phase)
	case s.Anchor != AnchorHSM && s.Anchor != AnchorNone:
		return fmt.Errorf("anchor %q: want hsm or none", s.Anchor)
	case (s.URI == "") == (s.KeyFile == ""):
		return errors.New("one of uri and key_file has to be given")
	case s.URI != "" && !strings.HasPrefix(s.URI, "pkcs11:"):
		return errors.New("uri is no pkcs11 URI (RFC 7512)")
	case !strings.HasPrefix(s.Key, "tms:seal:"):
		return fmt.Errorf("key %q", s.Key)
	case len(s.Roles) == 0:
		return errors.New("it names no roles")
	}
	for _, r := range s.Roles {
		if err := r.Check(); err != nil {
			return err
		}
	}
	return CheckPINSource(s.PINSource)
}

// CheckPINSource reports whether a PIN source has one of the forms prompt,
// file:PATH, cred:NAME and fd:N.
func CheckPINSource(s string) error {
	kind, value, _ := strings.Cut(s, ":")
	switch {
	case s == "prompt":
		return nil
	case kind == "file" && filepath.IsAbs(value):
		return nil
	case kind == "cred" && value != "" && !strings.ContainsAny(value, `/\`):
		return nil
	case kind == "fd" && value != "" && strings.Trim(value, "0123456789") == "" && len(value) < 6:
		return nil
	}
	return fmt.Errorf("PIN source %q: want prompt, file:/absolute/path, cred:NAME or fd:NUMBER", s)
}

// Write puts the document into a folder, whole.
func (s Bootstrap) Write(dir string) error {
	if err := s.Check(); err != nil {
		return fmt.Errorf("writing %s: %w", BootstrapFile, err)
	}
	var b bytes.Buffer
	b.WriteString("# How the sealed files of this folder are opened. It holds no secret.\n")
	if err := toml.NewEncoder(&b).Encode(s); err != nil {
		return fmt.Errorf("writing %s: %w", BootstrapFile, err)
	}
	return ofFile("", "writing "+BootstrapFile, WriteFile(filepath.Join(dir, BootstrapFile), b.Bytes()))
}
