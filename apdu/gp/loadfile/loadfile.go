// Package loadfile reads Java Card load files: CAP files (ZIP archives) and IJC
// files (their components in a row). [Parse] takes either, [File.Code] is what
// goes to the card, [File.CoolKey] the version of a CoolKey applet.
//
// Java Card Virtual Machine Specification chapter 6; GlobalPlatform 2.3.1 §11.6.
// The code of the methods is not looked at, the card does that. Everything is
// bounded: a file is at most 1 MiB, its code at most 65535 bytes. A File does not
// change and is safe for concurrent use.
package loadfile

import (
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/tlv"
)

// MaxFile is the size of the largest file that Parse looks at, in bytes.
const MaxFile = 1 << 20

// Tag is a component tag (Java Card VM 3.1 §6.3).
type Tag uint8

// Components.
const (
	Header       Tag = 1
	Directory    Tag = 2
	Applet       Tag = 3
	Import       Tag = 4
	ConstantPool Tag = 5
	Class        Tag = 6
	Method       Tag = 7
	StaticField  Tag = 8
	RefLocation  Tag = 9
	Export       Tag = 10
	Descriptor   Tag = 11
	Debug        Tag = 12
)

// loadOrder is the order in which a card wants the components (Java Card VM
// §6.2). Debug and custom components are not loaded.
var loadOrder = []Tag{Header, Directory, Import, Applet, Class, Method, StaticField, Export, ConstantPool, RefLocation, Descriptor}

var tagNames = map[Tag]string{
	Header: "Header", Directory: "Directory", Applet: "Applet", Import: "Import",
	ConstantPool: "ConstantPool", Class: "Class", Method: "Method", StaticField: "StaticField",
	RefLocation: "RefLocation", Export: "Export", Descriptor: "Descriptor", Debug: "Debug",
}

// String is the name of the component's file in a CAP archive.
func (t Tag) String() string {
	if s, ok := tagNames[t]; ok {
		return s
	}
	return fmt.Sprintf("component %d", uint8(t))
}

// Component is one component, its body without tag and length.
type Component struct {
	Tag  Tag
	Body []byte
}

// Format is the form in which a file came.
type Format uint8

// Formats.
const (
	FormatIJC     Format = iota + 1 // components in a row
	FormatCAP                       // ZIP archive of components
	FormatWrapped                   // IJC behind a C4 header, as LOAD sends it
)

// String names the format.
func (f Format) String() string {
	return map[Format]string{FormatIJC: "IJC", FormatCAP: "CAP", FormatWrapped: "wrapped IJC"}[f]
}

// Version is the version of a package.
type Version struct{ Major, Minor uint8 }

// String is major and minor in decimal.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// ImportedPackage is a package that the card must have.
type ImportedPackage struct {
	AID     apdu.AID
	Version Version
}

// File is a parsed load file.
type File struct {
	Format     Format
	Package    apdu.AID
	Version    Version // of the package
	Applets    []apdu.AID
	Imports    []ImportedPackage
	Components []Component // in load order

	code []byte
}

// Parse reads a CAP or IJC file, told apart by its first bytes. It copies b.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("parsing load file: %d bytes, at most %d", len(b), MaxFile)
	}
	f, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("parsing load file: %w", err)
	}
	return f, nil
}

func parse(b []byte) (*File, error) {
	f := &File{}
	var err error
	switch {
	case len(b) >= 4 && string(b[:4]) == "PK\x03\x04":
		f.Format = FormatCAP
		f.code, err = readCAP(b)
	case len(b) > 0 && b[0] == 0xC4:
		f.Format = FormatWrapped
		f.code, err = unwrap(b)
	default:
		f.Format = FormatIJC
		f.code = append([]byte(nil), b...)
	}
	if err != nil {
		return nil, err
	}
	if len(f.code) > gp.MaxCode {
		return nil, fmt.Errorf("%d bytes of code, at most %d", len(f.code), gp.MaxCode)
	}
	if f.Components, err = split(f.code); err != nil {
		return nil, err
	}
	return f, f.readComponents()
}

func unwrap(b []byte) ([]byte, error) {
	t, rest, err := tlv.Next(b)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind the C4 object", len(rest))
	}
	return append([]byte(nil), t.Value...), nil
}

// split cuts code into components, each once, the header first.
func split(b []byte) ([]Component, error) {
	var cs []Component
	var seen [256]bool
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, errors.New("component header is cut")
		}
		tag, n := Tag(b[0]), int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		switch {
		case n > len(b):
			return nil, fmt.Errorf("component %v: %d bytes, %d left", tag, n, len(b))
		case seen[tag]:
			return nil, fmt.Errorf("component %v: twice", tag)
		case len(cs) == 0 && tag != Header:
			return nil, fmt.Errorf("first component is %v, not Header", tag)
		}
		seen[tag] = true
		cs = append(cs, Component{Tag: tag, Body: b[:n:n]})
		b = b[n:]
	}
	if len(cs) == 0 {
		return nil, errors.New("no component")
	}
	return cs, nil
}

// Code returns a copy of the bytes that INSTALL [for load] counts and LOAD sends,
// without the C4 header.
func (f *File) Code() []byte { return append([]byte(nil), f.code...) }

// Component returns the body of a component.
func (f *File) Component(t Tag) (body []byte, ok bool) {
	for _, c := range f.Components {
		if c.Tag == t {
			return c.Body, true
		}
	}
	return nil, false
}
