package loadfile

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// CoolKeyVersion is the version of a CoolKey applet: what the applet reports with
// GET STATUS and GET BUILD ID, and what its load file is named by.
type CoolKeyVersion struct {
	Protocol Version // 0.0 in files older than any version report
	Applet   Version // as Protocol
	BuildID  uint32  // Unix time of the build
}

// String is the file's name without extension: applet major and minor in decimal
// and the build in eight hexadecimal digits, "1.4.58768072". Where there is no
// applet version it is the build alone.
func (v CoolKeyVersion) String() string {
	if v.Applet == (Version{}) {
		return fmt.Sprintf("%08x", v.BuildID)
	}
	return fmt.Sprintf("%v.%08x", v.Applet, v.BuildID)
}

// ParseCoolKeyVersion reads what String writes, either letter case. The protocol
// version is not part of it and is set to 1.1, that of every applet from 1.3 on.
func ParseCoolKeyVersion(s string) (CoolKeyVersion, error) {
	v := CoolKeyVersion{Protocol: Version{1, 1}}
	parts := strings.Split(s, ".")
	build := parts[len(parts)-1]
	n, err := strconv.ParseUint(build, 16, 32)
	if err != nil || len(build) != 8 {
		return CoolKeyVersion{}, fmt.Errorf("applet version %q: build id is not eight hexadecimal digits", s)
	}
	v.BuildID = uint32(n)
	switch len(parts) {
	case 1:
		v.Protocol = Version{}
		return v, nil
	case 3:
		if v.Applet.Major, err = decimal(parts[0]); err == nil {
			v.Applet.Minor, err = decimal(parts[1])
		}
		if err != nil || v.Applet == (Version{}) {
			return CoolKeyVersion{}, fmt.Errorf("applet version %q: %q.%q is no version", s, parts[0], parts[1])
		}
		return v, nil
	}
	return CoolKeyVersion{}, fmt.Errorf("applet version %q is not MAJOR.MINOR.BUILD", s)
}

func decimal(s string) (uint8, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err
}

// ErrNotCoolKey means that a load file carries no CoolKey build id.
var ErrNotCoolKey = errors.New("load file is no CoolKey applet")

// CoolKey reads the applet's version out of the code. It returns [ErrNotCoolKey]
// where the build id does not stand in the file exactly once.
func (f *File) CoolKey() (CoolKeyVersion, error) {
	body, _ := f.Component(Method)
	var v CoolKeyVersion
	builds := 0
	for b := range from(body, 0x1A, 0x03, 0x11) {
		if id, ok := matchBuild(b); ok {
			v.BuildID = id
			builds++
		}
	}
	if builds != 1 {
		return CoolKeyVersion{}, ErrNotCoolKey
	}
	for b := range from(body, 0x1A) {
		if n, ok := matchVersions(b); ok {
			v.Protocol = Version{Major: n[0], Minor: n[1]}
			v.Applet = Version{Major: n[2], Minor: n[3]}
			break
		}
	}
	return v, nil
}

// from are the rests of b that begin with head.
func from(b []byte, head ...byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := bytes.Index(b, head); i >= 0 && yield(b[i:]); i = bytes.Index(b, head) {
			b = b[i+1:]
		}
	}
}

// buildPattern is the compiled answer to GET BUILD ID, two calls of
// Util.setShort: aload_2 sconst_0 sspush HHHH invokestatic xxxx pop, aload_2
// sconst_2 sspush LLLL invokestatic xxxx pop. -1 stands for any byte.
var buildPattern = [...]int{
	0x1A, 0x03, 0x11, -1, -1, 0x8D, -1, -1, 0x3B,
	0x1A, 0x05, 0x11, -1, -1, 0x8D, -1, -1, 0x3B,
}

func matchBuild(b []byte) (id uint32, ok bool) {
	if len(b) < len(buildPattern) {
		return 0, false
	}
	for i, want := range buildPattern {
		if want >= 0 && int(b[i]) != want {
			return 0, false
		}
	}
	if b[6] != b[15] || b[7] != b[16] { // two calls of the same method
		return 0, false
	}
	return uint32(b[3])<<24 | uint32(b[4])<<16 | uint32(b[12])<<8 | uint32(b[13]), true
}

// matchVersions matches the head of the compiled answer to GET STATUS: four times
// buffer[pos++] = version byte, for protocol and applet, major and minor.
func matchVersions(b []byte) (v [4]uint8, ok bool) {
	for i := range v {
		n := 0
		if v[i], n = matchVersionByte(b); n == 0 {
			return v, false
		}
		b = b[n:]
	}
	return v, true
}

// matchVersionByte matches aload_2, sload n (1F stands for 16 03), sinc n 1, the
// byte as sconst_v or bspush v, bastore. n is the length of the match, 0 for none.
func matchVersionByte(b []byte) (v uint8, n int) {
	var w [9]byte // the longest form; zero behind the end of b
	have := copy(w[:], b)
	var local byte
	switch {
	case w[0] == 0x1A && w[1] == 0x1F:
		local, n = 3, 2
	case w[0] == 0x1A && w[1] == 0x16:
		local, n = w[2], 3
	default:
		return 0, 0
	}
	if w[n] != 0x59 || w[n+1] != local || w[n+2] != 0x01 {
		return 0, 0
	}
	n += 3
	switch c := w[n]; {
	case c >= 0x03 && c <= 0x08: // sconst_0 to sconst_5
		v, n = c-0x03, n+1
	case c == 0x10: // bspush
		v, n = w[n+1], n+2
	default:
		return 0, 0
	}
	if w[n] != 0x38 || n >= have {
		return 0, 0
	}
	return v, n + 1
}
