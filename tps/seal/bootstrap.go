package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"inkan/apdu/durable"
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
	AnchorDB   = "db"   // a row of the token database
	AnchorFile = "file" // anchor.json: accidents are noticed, not who can write the folder
	AnchorNone = "none" // files that were put back are not noticed
)

// CheckAnchor reports whether there is an anchor of this name.
func CheckAnchor(a string) error {
	switch a {
	case AnchorHSM, AnchorDB, AnchorFile, AnchorNone:
		return nil
	}
	return fmt.Errorf("anchor %q: want hsm, db, file or none", a)
}

// Bootstrap is seal.toml: what has to be known to open the sealed files. It holds
// no secret, and nobody vouches for it.
type Bootstrap struct {
	Instance InstanceID `toml:"instance"`
	Phase    Phase      `toml:"phase"`
	// URI of the token (RFC 7512) whose key seals; empty: the key file does.
	URI     string `toml:"uri"`
	KeyFile string `toml:"key_file,omitempty"` // without URI: the key file, relative to the folder
	// Credential is the name of a systemd credential, instead of both: its content is
	// the secret.
	Credential string `toml:"credential,omitempty"`
	PINSource  string `toml:"pin_source,omitempty"` // prompt, file:PATH, cred:NAME, fd:N; of a key file: of its passphrase
	Key        string `toml:"key,omitempty"`        // label of the key that writes use
	Recipient  string `toml:"recovery,omitempty"`   // age recipient; passphrase; empty: none
	Anchor     string `toml:"anchor"`               // hsm, db, file or none
	Roles      []Role `toml:"roles"`
	// Slots are further keys that every file is written for and that open it where the
	// first does not: of a second HSM, or a credential.
	Slots []Place `toml:"slot,omitempty"`
}

// Place is where a sealing key is: in a token, in the key file, or a credential.
type Place struct {
	URI        string `toml:"uri,omitempty"`
	KeyFile    string `toml:"key_file,omitempty"`
	Credential string `toml:"credential,omitempty"`
	PINSource  string `toml:"pin_source,omitempty"`
	Key        string `toml:"key,omitempty"`
}

// Check reports what is wrong with the place.
func (p Place) Check() error {
	n := 0
	for _, v := range []string{p.URI, p.KeyFile, p.Credential} {
		if v != "" {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("one of uri, key_file and credential has to be given")
	case p.Credential != "" && (p.Key != "" || p.PINSource != ""):
		return errors.New("a credential has neither key nor pin_source")
	case p.Credential != "":
		return CheckCredential(p.Credential)
	case p.URI != "" && !strings.HasPrefix(p.URI, "pkcs11:"):
		return errors.New("uri is no pkcs11 URI (RFC 7512)")
	case !strings.HasPrefix(p.Key, "tms:seal:"):
		return fmt.Errorf("key %q", p.Key)
	}
	return CheckPINSource(p.PINSource)
}

// Same reports whether two places are one, whatever key and PIN source they name.
func (p Place) Same(q Place) bool {
	return p.URI == q.URI && p.KeyFile == q.KeyFile && p.Credential == q.Credential
}

// String is the place in the words of seal.toml.
func (p Place) String() string {
	if p.Credential != "" {
		return "cred:" + p.Credential
	}
	return p.URI + p.KeyFile
}

// First is the place whose key opens usually.
func (s Bootstrap) First() Place {
	return Place{URI: s.URI, KeyFile: s.KeyFile, Credential: s.Credential, PINSource: s.PINSource, Key: s.Key}
}

// SetFirst makes p the place whose key opens usually.
func (s *Bootstrap) SetFirst(p Place) {
	s.URI, s.KeyFile, s.Credential, s.PINSource, s.Key = p.URI, p.KeyFile, p.Credential, p.PINSource, p.Key
}

// Places are all places that files are written for.
func (s Bootstrap) Places() []Place { return append([]Place{s.First()}, s.Slots...) }

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
	case CheckAnchor(s.Anchor) != nil:
		return CheckAnchor(s.Anchor)
	case len(s.Roles) == 0:
		return errors.New("it names no roles")
	}
	for _, r := range s.Roles {
		if err := r.Check(); err != nil {
			return err
		}
	}
	return s.checkPlaces()
}

// checkPlaces: each in order and none twice, and one of them keeps the generations.
func (s Bootstrap) checkPlaces() error {
	vault := false
	all := s.Places()
	for i, p := range all {
		if err := p.Check(); err != nil {
			return err
		}
		if slices.ContainsFunc(all[:i], p.Same) {
			return fmt.Errorf("key slot %s is there twice", p)
		}
		vault = vault || p.Credential == ""
	}
	if s.Anchor == AnchorHSM && !vault {
		return errors.New("a credential keeps no generations: anchor db or file")
	}
	return nil
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
	return ofFile("", "writing "+BootstrapFile, durable.ReplaceFile(filepath.Join(dir, BootstrapFile), b.Bytes(), 0o600))
}
