package loadfile_test

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/fixtures"
)

// published is the synthetic load file as coolkey-applet.md §15.4 prints it.
const published = `
010010decaffed010204000106627601ff000002001f0010001f000b00010002
001000a0000a0004000000000000000000000001000400010003000b01076276
01ff0000000000060010000000000000000000000000000000000700a0001a03
1166008d00003b1a051100018d00003b1a1f59030104381a1f59030104381a1f
59030104381a1f59030107387a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a08000a
00000000000000000000050002000009000400000000`

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func version(t testing.TB, s string) loadfile.CoolKeyVersion {
	t.Helper()
	v, err := loadfile.ParseCoolKeyVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func synthetic(t testing.TB, s string) []byte {
	t.Helper()
	b, err := loadfile.Synthetic(version(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSyntheticIsPublished(t *testing.T) {
	t.Parallel()
	want := unhex(t, published)
	if got := synthetic(t, "1.4.66000001"); !bytes.Equal(got, want) {
		t.Errorf("\n got %X\nwant %X", got, want)
	}
	shipped, err := fixtures.Applet(fixtures.DefaultApplet)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shipped, want) {
		t.Error("the shipped file is another one")
	}
}

// TestSyntheticRoundTrip: whatever version goes in comes out.
func TestSyntheticRoundTrip(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1.4.66000001", "1.5.00000000", "0.6.3fd00877", "1.6.ffffffff", "127.127.1a03111a", "2.0.8d00003b"} {
		f, err := loadfile.Parse(synthetic(t, s))
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		v, err := f.CoolKey()
		if err != nil || v != version(t, s) || v.String() != s {
			t.Errorf("%s: %v protocol %v, %v", s, v, v.Protocol, err)
		}
	}
	if b, err := loadfile.Synthetic(loadfile.CoolKeyVersion{Applet: loadfile.Version{Major: 128}}); err == nil {
		t.Errorf("version 128: %d bytes, want an error", len(b))
	}
}

func TestParseIJC(t *testing.T) {
	t.Parallel()
	in := unhex(t, published)
	f, err := loadfile.Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%v %v %v %v %v", f.Format, f.Package, f.Version, f.Applets, f.Imports)
	if want := "IJC 627601FF0000 1.0 [627601FF000000] []"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var tags []string
	for _, c := range f.Components {
		tags = append(tags, c.Tag.String())
	}
	if want := "Header Directory Import Applet Class Method StaticField ConstantPool RefLocation"; strings.Join(tags, " ") != want {
		t.Errorf("%v, want %s", tags, want)
	}
	clear(in)
	if code := f.Code(); !bytes.Equal(code, unhex(t, published)) {
		t.Error("the code is not a copy of what was parsed")
	}
	f.Code()[0] = 0xFF
	if f.Code()[0] != 1 {
		t.Error("Code is no copy")
	}
	if _, ok := f.Component(loadfile.Descriptor); ok {
		t.Error("a component that is not there")
	}
	// It has to reach 224 bytes for Dogtag's TPS (coolkey-applet.md §13).
	cs, err := gp.LoadCommands(f.Code(), 208)
	if err != nil || len(cs) != 2 || len(cs[1].Data) != 0x4A {
		t.Errorf("%d blocks, %v", len(cs), err)
	}
}

// field is a file of the shape of those in the field: imports, an export
// component, a descriptor, CAP 2.1, package 2.0.
func field(t testing.TB) []loadfile.Component {
	t.Helper()
	return []loadfile.Component{
		{Tag: loadfile.Header, Body: unhex(t, "DECAFFED 01 02 04 00 02 06 627601FF0000")},
		{Tag: loadfile.Directory, Body: unhex(t, "0010 001F 0015 001E 0004 0003 0002 000A 0004 0005 0006 0000 0000 0000 02 02 00")},
		{Tag: loadfile.Import, Body: unhex(t, "03 02 01 07 A0000000620101 00 01 07 A0000000620001 00 01 06 A00000015100")},
		{Tag: loadfile.Applet, Body: unhex(t, "02 07 627601FF000000 0001 07 627601FF000001 0002")},
		{Tag: loadfile.Class, Body: make([]byte, 3)},
		{Tag: loadfile.Method, Body: make([]byte, 2)},
		{Tag: loadfile.StaticField, Body: make([]byte, 10)},
		{Tag: loadfile.Export, Body: make([]byte, 5)},
		{Tag: loadfile.ConstantPool, Body: make([]byte, 4)},
		{Tag: loadfile.RefLocation, Body: make([]byte, 4)},
		{Tag: loadfile.Descriptor, Body: make([]byte, 6)},
	}
}

func row(cs ...loadfile.Component) []byte {
	var b []byte
	for _, c := range cs {
		b = append(b, byte(c.Tag), byte(len(c.Body)>>8), byte(len(c.Body)))
		b = append(b, c.Body...)
	}
	return b
}

// archive zips components as a CAP file does, in the order of their names, with
// what else lies in one.
func archive(t testing.TB, cs []loadfile.Component, extra map[string]string) []byte {
	t.Helper()
	files := map[string]string{"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n"}
	for _, c := range cs {
		files["com/example/ckey/javacard/"+c.Tag.String()+".cap"] = string(row(c))
	}
	for name, body := range extra {
		files[name] = body
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range names {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestParseCAP(t *testing.T) {
	t.Parallel()
	cs := field(t)
	f, err := loadfile.Parse(archive(t, cs, map[string]string{
		"com/example/ckey/javacard/Debug.cap":  "\x0C\x00\x01\x00",
		"com/example/ckey/javacard/readme.txt": "no component",
		"APPLET-INF/applet.xml":                "<x/>",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if f.Format.String() != "CAP" || f.Version.String() != "2.0" || len(f.Applets) != 2 || len(f.Imports) != 3 || f.Imports[0].Version.String() != "1.2" {
		t.Errorf("%v %v %v %v", f.Format, f.Version, f.Applets, f.Imports)
	}
	if !bytes.Equal(f.Code(), row(cs...)) {
		t.Error("the code is not the components in load order")
	}
	same, err := loadfile.Parse(row(cs...))
	if err != nil || !bytes.Equal(same.Code(), f.Code()) || fmt.Sprint(same.Imports) != fmt.Sprint(f.Imports) {
		t.Errorf("IJC of the same components differs, %v", err)
	}
	if _, err := f.CoolKey(); !errors.Is(err, loadfile.ErrNotCoolKey) {
		t.Errorf("a file without a build id: %v", err)
	}
}

func TestParseWrapped(t *testing.T) {
	t.Parallel()
	f, err := loadfile.Parse(append(unhex(t, "C4820116"), unhex(t, published)...))
	if err != nil || f.Format != loadfile.FormatWrapped || len(f.Code()) != 278 {
		t.Errorf("%v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := unhex(t, published)
	change := func(at int, b byte) []byte {
		c := append([]byte(nil), good...)
		c[at] = b
		return c
	}
	cs := field(t)
	replace := func(i int, body string) []byte {
		c := slices.Clone(cs)
		c[i].Body = unhex(t, body)
		return row(c...)
	}
	for name, b := range map[string][]byte{
		"nothing":                    nil,
		"text":                       []byte("#!/bin/sh"),
		"too large":                  make([]byte, loadfile.MaxFile+1),
		"cut component":              good[:200],
		"cut header of a component":  good[:20],
		"magic":                      change(3, 0xDF),
		"first is no header":         good[19:],
		"component twice":            append(slices.Clone(good), 9, 0, 0),
		"trailing byte":              append(slices.Clone(good), 9),
		"size against directory":     append(slices.Clone(good[:len(good)-7]), 9, 0, 5, 0, 0, 0, 0, 0),
		"package AID too long":       change(12, 0x40),
		"package AID too short":      change(12, 4),
		"package AID of 17 bytes":    row(loadfile.Component{Tag: 1, Body: append([]byte("\xDE\xCA\xFF\xED\x01\x02\x04\x00\x01\x11"), make([]byte, 17)...)}),
		"cut directory":              replace(1, "0010"),
		"cut applets":                replace(3, "02 07 627601FF000000 0001"),
		"cut install offset":         replace(3, "01 07 627601FF000000 00"),
		"cut imports":                replace(2, "01 02 01 07 A00000"),
		"applet without AID":         replace(3, "01 00 0001"),
		"wrapped, cut":               append([]byte{0xC4, 0x82, 0x01, 0x17}, good...),
		"wrapped, more behind":       append([]byte{0xC4, 0x82, 0x01, 0x15}, good...),
		"code too large":             row(append(slices.Clone(cs[:2]), loadfile.Component{Tag: loadfile.Method, Body: make([]byte, 65535)})...),
		"archive, cut":               archive(t, cs, nil)[:300],
		"archive, empty":             archive(t, nil, nil),
		"archive, no header":         archive(t, cs[1:], nil),
		"archive, two packages":      archive(t, cs, map[string]string{"other/javacard/Header.cap": "x"}),
		"archive, wrong tag":         archive(t, cs[1:], map[string]string{"a/javacard/Header.cap": string(row(cs[2]))}),
		"archive, wrong length":      archive(t, cs[1:], map[string]string{"a/javacard/Header.cap": string(row(cs[0])) + "x"}),
		"archive, empty component":   archive(t, cs[1:], map[string]string{"a/javacard/Header.cap": ""}),
		"archive, inflates too much": archive(t, cs, map[string]string{"a/javacard/Method.cap": "x", "com/example/ckey/javacard/Method.cap": strings.Repeat("\x07", 1<<20)}),
		"archive, huge component":    archive(t, append(slices.Clone(cs[:5]), cs[6:]...), map[string]string{"com/example/ckey/javacard/Method.cap": strings.Repeat("\x07", 100<<20)}),
	} {
		if f, err := loadfile.Parse(b); err == nil {
			t.Errorf("%s: %v %v, want an error", name, f.Package, f.Format)
		} else if !strings.HasPrefix(err.Error(), "parsing load file: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f, err := loadfile.Parse(archive(t, nil, manyFiles())); err == nil {
		t.Errorf("archive of 5000 files: %v", f.Package)
	}
}

func manyFiles() map[string]string {
	m := map[string]string{}
	for i := range 5000 {
		m[fmt.Sprint(i)] = ""
	}
	return m
}

func TestCoolKeyVersion(t *testing.T) {
	t.Parallel()
	const (
		build = "1A0311 4D40 8D0123 3B 1A0511 A449 8D0123 3B"
		short = "1A1F59030104 38 1A1F59030104 38 1A1F59030104 38 1A1F59030107 38" // 1.1, 1.4
		long  = "1A16045904011000 38 1A16045904011007 38 1A160459040104 38 1A160459040109 38"
	)
	for name, tc := range map[string]struct{ code, want string }{
		"both":                         {"00" + build + "77" + short, "1.4.4d40a449 1.1"},
		"versions first":               {short + build, "1.4.4d40a449 1.1"},
		"bspush, other local":          {build + strings.Replace(long, "0109", "0106", 1), "1.3.4d40a449 0.7"},
		"no sconst beyond 5":           {build + long, "4d40a449 0.0"},
		"no versions":                  {build, "4d40a449 0.0"},
		"versions cut at the end":      {build + strings.TrimSuffix(short, " 38"), "4d40a449 0.0"},
		"different locals":             {build + strings.Replace(short, "1A1F5903", "1A1F5904", 1), "4d40a449 0.0"},
		"build id twice":               {build + build + short, ""},
		"different methods":            {strings.Replace(build, "8D0123", "8D0124", 1) + short, ""},
		"no build id":                  {short, ""},
		"build id cut":                 {strings.TrimSuffix(build, " 3B"), ""},
		"bytes that are no characters": {"FFFE80" + build + "C3" + short + "E2", "1.4.4d40a449 1.1"},
	} {
		cs := field(t)
		cs[1].Body = unhex(t, strings.Repeat("0000", 5)) // no Directory to hold against
		cs = append(cs[:1], cs[2:]...)
		cs[4].Body = unhex(t, tc.code)
		f, err := loadfile.Parse(row(cs...))
		if err != nil {
			t.Fatal(err)
		}
		v, err := f.CoolKey()
		if tc.want == "" {
			if !errors.Is(err, loadfile.ErrNotCoolKey) {
				t.Errorf("%s: %v, %v; want ErrNotCoolKey", name, v, err)
			}
			continue
		}
		if got := fmt.Sprint(v, " ", v.Protocol); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, tc.want)
		}
	}
}

func TestParseCoolKeyVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"1.4.58768072": "1.4.58768072", "1.3.44724DDE": "1.3.44724dde", "404E4697": "404e4697"} {
		v, err := loadfile.ParseCoolKeyVersion(in)
		if err != nil || v.String() != want {
			t.Errorf("%s: %v, %v", in, v, err)
		}
	}
	for _, in := range []string{"", "1.4", "1.4.5876807", "1.4.587680722", "1.4.5876807z", "1.58768072", "256.0.58768072", "1.x.58768072", "0.0.58768072", "1.4.58768072.ijc", "1.4.58768072.1", "-1.4.58768072"} {
		if v, err := loadfile.ParseCoolKeyVersion(in); err == nil {
			t.Errorf("%q: %v, want an error", in, v)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if loadfile.Tag(99).String() != "component 99" || loadfile.FormatWrapped.String() != "wrapped IJC" {
		t.Error(loadfile.Tag(99), loadfile.FormatWrapped)
	}
}

func FuzzLoadFileNoPanic(f *testing.F) {
	f.Add(unhex(f, published))
	f.Add(row(field(f)...))
	f.Add(archive(f, field(f), nil))
	f.Add(append(unhex(f, "C4820116"), unhex(f, published)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := loadfile.Parse(b)
		if err != nil {
			return
		}
		if len(file.Code()) > gp.MaxCode || len(file.Components) == 0 || file.Package.Len() < 5 {
			t.Errorf("%d bytes of code, %d components, package %v", len(file.Code()), len(file.Components), file.Package)
		}
		if !bytes.Equal(row(file.Components...), file.Code()) {
			t.Error("the components are not the code")
		}
		again, err := loadfile.Parse(file.Code())
		if err != nil || again.Package != file.Package || len(again.Applets) != len(file.Applets) {
			t.Errorf("the code parses otherwise: %v", err)
		}
		_, _ = file.CoolKey()
	})
}

func ExampleParse() {
	b, err := fixtures.Applet(fixtures.DefaultApplet)
	if err != nil {
		panic(err)
	}
	file, err := loadfile.Parse(b)
	if err != nil {
		panic(err)
	}
	version, err := file.CoolKey()
	if err != nil {
		panic(err)
	}
	entries, err := gp.LoadEntries(gp.GP211, gp.LoadRequest{LoadFile: file.Package, Domain: gp.AIDCardManager}, file.Code(), 239)
	if err != nil {
		panic(err)
	}
	fmt.Println(file.Package, file.Applets, version, len(entries))
	// Output: 627601FF0000 [627601FF000000] 1.4.66000001 3
}
