package piv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"inkan/apdu/gp/loadfile"
	"inkan/tps"
)

// file reads the load file of a version, VERSION.cap or VERSION.ijc. The synthetic one
// has no code and never goes onto a real card.
func (f Family) file(version string, c tps.Card) (*loadfile.File, error) {
	if version == "" {
		return nil, errors.New("the profile names no version of PivApplet ([applet] version), and the card has none built in")
	}
	b, err := fs.ReadFile(f.Applets, version+".cap")
	if errors.Is(err, fs.ErrNotExist) {
		b, err = fs.ReadFile(f.Applets, version+".ijc")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the load file of PivApplet %s (it belongs into the folder applets): %w", version, err)
	}
	file, err := loadfile.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("load file of PivApplet %s: %w", version, err)
	}
	if file.Package != loadfile.PIVPackage || !slices.Contains(file.Applets, loadfile.PIVApplet) {
		return nil, fmt.Errorf("the load file %s holds package %s with the applets %v, not PivApplet", version, file.Package, file.Applets)
	}
	if bytes.Equal(file.Code(), loadfile.SyntheticPIV()) && !simulated(c.CUID) {
		return nil, fmt.Errorf("PivApplet %s is the synthetic one, for software cards only: put the load file of the real applet into the folder applets", version)
	}
	return file, nil
}
