package loadfile

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// AIDs of CoolKey.
var (
	CoolKeyPackage = apdu.MustAID("627601FF0000")
	CoolKeyApplet  = apdu.MustAID("627601FF000000")
)

// AIDs of PivApplet. It registers under the AID of the applet and no other.
var (
	PIVPackage = apdu.MustAID("A000000308000010")
	PIVApplet  = apdu.MustAID("A000000308000010000100")
)

// Sizes of the synthetic file's components where nothing depends on their content.
const (
	syntheticMethod      = 160
	syntheticClass       = 16
	syntheticStaticField = 10
	syntheticRefLocation = 4
	directorySize        = 31 // CAP 2.1
)

// Synthetic makes a load file that has everything of a CoolKey load file but the
// applet: identifiers and versions that hosts and the software card read, and
// filler for code. It is long enough for Dogtag's TPS, which refuses a stream of
// less than 224 bytes. It must never be loaded onto a real card, where it is good
// for nothing. The same version always gives the same bytes. Versions go up to 127.
func Synthetic(v CoolKeyVersion) ([]byte, error) {
	for _, n := range []uint8{v.Protocol.Major, v.Protocol.Minor, v.Applet.Major, v.Applet.Minor} {
		if n > 127 {
			return nil, fmt.Errorf("making load file %v: version %d is no signed byte", v, n)
		}
	}
	return synthetic(CoolKeyPackage, CoolKeyApplet, syntheticCode(v)), nil
}

// SyntheticPIV is [Synthetic] for PivApplet: package and applet are the real ones,
// the code is filler.
func SyntheticPIV() []byte {
	return synthetic(PIVPackage, PIVApplet, bytes.Repeat([]byte{returnCode}, syntheticMethod))
}

// returnCode is the instruction return.
const returnCode = 0x7A

func synthetic(pkg, applet apdu.AID, code []byte) []byte {
	cs := []Component{
		{Header, syntheticHeader(pkg)},
		{Directory, nil}, // sizes of the others, below
		{Import, []byte{0}},
		{Applet, append(append([]byte{1, byte(applet.Len())}, applet.Bytes()...), 0, 0)},
		{Class, make([]byte, syntheticClass)},
		{Method, code},
		{StaticField, make([]byte, syntheticStaticField)},
		{ConstantPool, make([]byte, 2)},
		{RefLocation, make([]byte, syntheticRefLocation)},
	}
	cs[1].Body = syntheticDirectory(cs)
	var b []byte
	for _, c := range cs {
		b = append(b, byte(c.Tag), byte(len(c.Body)>>8), byte(len(c.Body)))
		b = append(b, c.Body...)
	}
	return b
}

// syntheticHeader is CAP 2.1 with applets, package version 1.0.
func syntheticHeader(pkg apdu.AID) []byte {
	b := append([]byte(magic), 1, 2, 0x04, 0, 1, byte(pkg.Len()))
	return append(b, pkg.Bytes()...)
}

// syntheticDirectory lists the sizes in the order of the Directory component, then
// image and array sizes 0, no imports, one applet, no custom components.
func syntheticDirectory(cs []Component) []byte {
	size := map[Tag]int{Directory: directorySize}
	for _, c := range cs {
		if c.Tag != Directory {
			size[c.Tag] = len(c.Body)
		}
	}
	b := make([]byte, 0, directorySize)
	for _, t := range directoryOrder {
		b = binary.BigEndian.AppendUint16(b, uint16(size[t]))
	}
	return append(b, 0, 0, 0, 0, 0, 0, 0, 1, 0)
}

// syntheticCode holds the two patterns that [File.CoolKey] reads, filled up with
// the instruction return.
func syntheticCode(v CoolKeyVersion) []byte {
	id := binary.BigEndian.AppendUint32(nil, v.BuildID)
	b := []byte{0, 0x1A, 0x03, 0x11, id[0], id[1], 0x8D, 0, 0, 0x3B, 0x1A, 0x05, 0x11, id[2], id[3], 0x8D, 0, 0, 0x3B}
	for _, n := range []uint8{v.Protocol.Major, v.Protocol.Minor, v.Applet.Major, v.Applet.Minor} {
		b = append(b, 0x1A, 0x1F, 0x59, 0x03, 0x01)
		if n <= 5 {
			b = append(b, 0x03+n)
		} else {
			b = append(b, 0x10, n)
		}
		b = append(b, 0x38)
	}
	return append(b, bytes.Repeat([]byte{returnCode}, syntheticMethod-len(b))...)
}
