package coolkey

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp/loadfile"
	"inkan/tps"
	"inkan/tps/profile"
)

// file reads the load file of a version. The synthetic one has no code and never
// goes onto a real card.
func (f Family) file(version string, c tps.Card) (*loadfile.File, error) {
	b, err := f.read(version)
	if err != nil {
		return nil, fmt.Errorf("reading the load file of applet %s (it belongs into the folder applets): %w", version, err)
	}
	file, err := loadfile.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("load file of applet %s: %w", version, err)
	}
	if synthetic(file) && !simulated(c.CUID) {
		return nil, fmt.Errorf("applet %s is the synthetic one, for software cards only: put the load file of a real applet into the folder applets and name its version in the profile", version)
	}
	return file, nil
}

// read finds VERSION.ijc or VERSION.cap. Profiles write versions in lower case;
// the names of old files have capitals (1.3.44724DDE.ijc).
func (f Family) read(version string) ([]byte, error) {
	var missing error
	for _, ext := range []string{".ijc", ".cap"} {
		b, err := fs.ReadFile(f.Applets, version+ext)
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
		missing = err
	}
	files, err := fs.ReadDir(f.Applets, ".")
	if err != nil {
		return nil, missing
	}
	for _, e := range files {
		ext := path.Ext(e.Name())
		if (ext == ".ijc" || ext == ".cap") && strings.EqualFold(strings.TrimSuffix(e.Name(), ext), version) {
			return fs.ReadFile(f.Applets, e.Name())
		}
	}
	return nil, missing
}

// checkFile refuses a load file that would make another applet than the one its
// name says: that would be known only after the card's own is gone.
func checkFile(file *loadfile.File, want string, p profile.Profile) error {
	if file.Package != coolkey.PackageAID() || !slices.Contains(file.Applets, coolkey.InstanceAID()) {
		return fmt.Errorf("the load file %s holds package %s with the applets %v, not the CoolKey applet", want, file.Package, file.Applets)
	}
	v, err := file.CoolKey()
	if err != nil || !p.Compat.AppletCheck {
		return nil // nobody knows before it runs, or wants to
	}
	if says := v.String(); says != want && !strings.HasSuffix(want, "."+says) { // old files say their build alone
		return fmt.Errorf("the load file %s holds applet %s", want, says)
	}
	return nil
}

func synthetic(file *loadfile.File) bool {
	v, err := file.CoolKey()
	if err != nil {
		return false
	}
	made, err := loadfile.Synthetic(v)
	return err == nil && bytes.Equal(made, file.Code())
}

// simulated reports a software card by the beginning of its CPLC (design.md §6).
func simulated(c apdu.CUID) bool { return bytes.HasPrefix(c[:], []byte{0x49, 0x4E, 0x4B, 0x41}) }
