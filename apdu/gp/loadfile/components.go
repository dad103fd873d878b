package loadfile

import (
	"errors"
	"fmt"

	"inkan/apdu"
)

const magic = "\xDE\xCA\xFF\xED"

// readComponents fills in what Header, Applet and Import say, and checks Directory.
func (f *File) readComponents() error {
	if err := f.readHeader(f.Components[0].Body); err != nil {
		return fmt.Errorf("component Header: %w", err)
	}
	if b, ok := f.Component(Applet); ok {
		if err := f.readApplets(b); err != nil {
			return fmt.Errorf("component Applet: %w", err)
		}
	}
	if b, ok := f.Component(Import); ok {
		if err := f.readImports(b); err != nil {
			return fmt.Errorf("component Import: %w", err)
		}
	}
	if err := f.checkSizes(); err != nil {
		return fmt.Errorf("component Directory: %w", err)
	}
	return nil
}

// readHeader reads magic, CAP minor and major, flags, package minor and major, AID.
func (f *File) readHeader(b []byte) error {
	r := reader{b: b}
	if string(r.take(4)) != magic {
		return errors.New("no magic DECAFFED")
	}
	r.take(3)
	f.Version.Minor, f.Version.Major = r.byte(), r.byte()
	f.Package = r.aid()
	return r.err
}

// readApplets reads count and {L AID, install method offset}.
func (f *File) readApplets(b []byte) error {
	r := reader{b: b}
	for range r.byte() {
		f.Applets = append(f.Applets, r.aid())
		r.take(2)
		if r.err != nil {
			return r.err
		}
	}
	return r.err
}

// readImports reads count and {minor, major, L AID}.
func (f *File) readImports(b []byte) error {
	r := reader{b: b}
	for range r.byte() {
		var p ImportedPackage
		p.Version.Minor, p.Version.Major = r.byte(), r.byte()
		p.AID = r.aid()
		if r.err != nil {
			return r.err
		}
		f.Imports = append(f.Imports, p)
	}
	return r.err
}

// reader takes fields off a component. Its first error sticks; fields read after
// it are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = errors.New("component is cut")
	}
	if r.err != nil {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

// aid reads a length and an AID of 5 to 16 bytes.
func (r *reader) aid() apdu.AID {
	v := r.take(int(r.byte()))
	if r.err != nil {
		return apdu.AID{}
	}
	if len(v) < 5 {
		r.err = fmt.Errorf("AID of %d bytes", len(v))
		return apdu.AID{}
	}
	a, err := apdu.NewAID(v)
	if err != nil {
		r.err = err
	}
	return a
}

// checkSizes compares the Directory component, where there is one, with the
// components that came along: eleven 16-bit sizes. A component that is listed but
// left out of the load file, as hosts do with Descriptor, is no contradiction.
func (f *File) checkSizes() error {
	dir, ok := f.Component(Directory)
	if !ok {
		return nil
	}
	r := reader{b: dir}
	for _, t := range directoryOrder {
		want := int(r.byte())<<8 | int(r.byte())
		if r.err != nil {
			return r.err
		}
		if body, ok := f.Component(t); ok && len(body) != want {
			return fmt.Errorf("%v has %d bytes, listed with %d", t, len(body), want)
		}
	}
	return nil
}

// directoryOrder is the order of sizes in the Directory component.
var directoryOrder = []Tag{Header, Directory, Applet, Import, ConstantPool, Class, Method, StaticField, RefLocation, Export, Descriptor}
