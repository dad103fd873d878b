package coolkey

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu"
)

// BuildID is the build time of an applet, Unix seconds.
type BuildID uint32

// String is eight lower-case hexadecimal digits, as in a load file's name.
func (b BuildID) String() string { return fmt.Sprintf("%08x", uint32(b)) }

// Version names an applet: what GET STATUS and GET BUILD ID report.
type Version struct {
	Major, Minor byte
	Build        BuildID
}

// String is the form of load file names and profiles: 1.4.58768072.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%s", v.Major, v.Minor, v.Build) }

// IsZero reports the zero version.
func (v Version) IsZero() bool { return v == Version{} }

// Compare orders versions: major, minor, then the time of the build. It is
// negative where v is older than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Build, w.Build))
}

// ParseVersion reads a version in the form of String, hexadecimal digits in either case.
func ParseVersion(s string) (Version, error) {
	p := strings.Split(s, ".")
	if len(p) != 3 || len(p[2]) != 8 {
		return Version{}, fmt.Errorf("applet version %q is not MAJOR.MINOR.BUILDID", s)
	}
	major, err1 := strconv.ParseUint(p[0], 10, 8)
	minor, err2 := strconv.ParseUint(p[1], 10, 8)
	build, err3 := strconv.ParseUint(p[2], 16, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return Version{}, fmt.Errorf("applet version %q is not MAJOR.MINOR.BUILDID", s)
	}
	return Version{Major: byte(major), Minor: byte(minor), Build: BuildID(build)}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Version) UnmarshalText(t []byte) (err error) {
	*v, err = ParseVersion(string(t))
	return err
}

// Status is the answer of GET STATUS (B0 3C), 16 bytes.
type Status struct {
	ProtocolMajor, ProtocolMinor byte
	AppletMajor, AppletMinor     byte
	HeapTotal, HeapFree          uint32 // bytes
	PINs                         int    // defined
	Keys                         int    // slots ever filled
	LoggedIn                     ACL    // identities
}

// ReadStatus asks for the applet's status.
func ReadStatus(ctx context.Context, d apdu.Doer) (Status, error) {
	b, err := call(ctx, d, "reading the applet status", statusCommand(), 16)
	if err != nil {
		return Status{}, err
	}
	return Status{
		ProtocolMajor: b[0], ProtocolMinor: b[1],
		AppletMajor: b[2], AppletMinor: b[3],
		HeapTotal: binary.BigEndian.Uint32(b[4:]), HeapFree: binary.BigEndian.Uint32(b[8:]),
		PINs: int(b[12]), Keys: int(b[13]),
		LoggedIn: ACL(binary.BigEndian.Uint16(b[14:])),
	}, nil
}

// ReadBuildID asks for the applet's build id (B0 70).
func ReadBuildID(ctx context.Context, d apdu.Doer) (BuildID, error) {
	b, err := call(ctx, d, "reading the build id", buildCommand(), 4)
	if err != nil {
		return 0, err
	}
	return BuildID(binary.BigEndian.Uint32(b)), nil
}

// ReadVersion asks for the status and the build id: the applet's version.
func ReadVersion(ctx context.Context, d apdu.Doer) (Version, error) {
	s, err := ReadStatus(ctx, d)
	if err != nil {
		return Version{}, err
	}
	b, err := ReadBuildID(ctx, d)
	return Version{Major: s.AppletMajor, Minor: s.AppletMinor, Build: b}, err
}

// LifeCycle is the applet's life cycle byte.
type LifeCycle byte

// Life cycle states: 07 after installation, 0F after a finished enrollment.
const (
	Selectable   LifeCycle = 0x07
	Personalized LifeCycle = 0x0F
)

// String names the states in use.
func (l LifeCycle) String() string {
	switch l {
	case Selectable:
		return "selectable"
	case Personalized:
		return "personalized"
	}
	return fmt.Sprintf("%02X", byte(l))
}

// ReadLifeCycle asks for the life cycle, short form (1 byte).
func ReadLifeCycle(ctx context.Context, d apdu.Doer) (LifeCycle, error) {
	b, err := call(ctx, d, "reading the life cycle", lifeCycleCommand(), 1)
	if err != nil {
		return 0, err
	}
	return LifeCycle(b[0]), nil
}

// Info is the long answer of GET LIFE CYCLE.
type Info struct {
	LifeCycle                    LifeCycle
	Login                        byte // 0 no PIN, 1 a PIN exists; +2 if everybody may create objects and keys
	ProtocolMajor, ProtocolMinor byte
}

// ReadInfo asks for the life cycle, long form (4 bytes).
func ReadInfo(ctx context.Context, d apdu.Doer) (Info, error) {
	b, err := call(ctx, d, "reading the life cycle", plain(0xF2, 0, 0, nil, 4), 4)
	if err != nil {
		return Info{}, err
	}
	return Info{LifeCycle: LifeCycle(b[0]), Login: b[1], ProtocolMajor: b[2], ProtocolMinor: b[3]}, nil
}

// SetLifeCycle stores a life cycle state. It runs through a channel.
func SetLifeCycle(ctx context.Context, d apdu.Doer, l LifeCycle) error {
	_, err := call(ctx, d, "setting the life cycle", SetLifeCycleCommand(l), 0)
	return err
}

// SetLifeCycleCommand is 84 F0.
func SetLifeCycleCommand(l LifeCycle) apdu.Command { return secure(0xF0, byte(l), 0, nil, 0) }

// IssuerInfoLen is the length of the issuer info: text padded with zeros.
const IssuerInfoLen = 224

// ReadIssuerInfo asks for the issuer info without its padding, often a URL.
func ReadIssuerInfo(ctx context.Context, d apdu.Doer) (string, error) {
	b, err := call(ctx, d, "reading the issuer info", ReadIssuerInfoCommand(), IssuerInfoLen)
	if err != nil {
		return "", err
	}
	return issuerText(b), nil
}

// ReadIssuerInfoCommand is B0 F6, a plain command; [IssuerInfoOf] reads the answer.
func ReadIssuerInfoCommand() apdu.Command { return plain(0xF6, 0, 0, nil, IssuerInfoLen) }

// IssuerInfoOf reads the answer to [ReadIssuerInfoCommand].
func IssuerInfoOf(r apdu.Response) (string, error) {
	if err := r.Check(ReadIssuerInfoCommand()); err != nil {
		return "", fmt.Errorf("reading the issuer info: %w", named(err))
	}
	if len(r.Data) < IssuerInfoLen {
		return "", fmt.Errorf("reading the issuer info: answer of %d bytes, want %d", len(r.Data), IssuerInfoLen)
	}
	return issuerText(r.Data), nil
}

func issuerText(b []byte) string { return strings.TrimRight(string(b[:IssuerInfoLen]), "\x00") }

// SetIssuerInfo stores text of at most 224 bytes. It runs through a channel.
func SetIssuerInfo(ctx context.Context, d apdu.Doer, text string) error {
	c, err := SetIssuerInfoCommand(text)
	if err == nil {
		_, err = call(ctx, d, "setting the issuer info", c, 0)
	}
	return err
}

// SetIssuerInfoCommand is 84 F4; it fails for a text of more than 224 bytes.
func SetIssuerInfoCommand(text string) (apdu.Command, error) {
	if len(text) > IssuerInfoLen {
		return apdu.Command{}, fmt.Errorf("issuer info of %d bytes is longer than %d", len(text), IssuerInfoLen)
	}
	b := make([]byte, IssuerInfoLen)
	copy(b, text)
	return secure(0xF4, 0, 0, b, 0), nil
}

// CreationACL says who may create objects, keys and PINs, and whether these
// rules can be changed.
type CreationACL struct {
	Object, Key, PIN ACL
	Changeable       bool
}

// ReadCreationACL is GET BUILT-IN ACL (B0 FA).
func ReadCreationACL(ctx context.Context, d apdu.Doer) (CreationACL, error) {
	b, err := call(ctx, d, "reading the creation rules", plain(0xFA, 0, 0, nil, 7), 7)
	if err != nil {
		return CreationACL{}, err
	}
	return CreationACL{
		Object: acl(b), Key: acl(b[2:]), PIN: acl(b[4:]), Changeable: b[6] != 0,
	}, nil
}

// SetCreationACL is SET BUILT-IN ACL (84 F8). Changeable false is final. It runs
// through a channel.
func SetCreationACL(ctx context.Context, d apdu.Doer, a CreationACL) error {
	data := appendACL(nil, a.Object, a.Key, a.PIN)
	flag := byte(0)
	if a.Changeable {
		flag = 1
	}
	_, err := call(ctx, d, "setting the creation rules", secure(0xF8, 0, 0, append(data, flag), 0), 0)
	return err
}

// Random asks for n random bytes of the card, 1 to 255.
func Random(ctx context.Context, d apdu.Doer, n int) ([]byte, error) {
	if n < 1 || n > 255 {
		return nil, fmt.Errorf("%d random bytes out of 1 to 255", n)
	}
	b, err := call(ctx, d, "reading random bytes", plain(0x72, 0, 0, nil, n), n)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// SeedRandom mixes seed, at most 255 bytes, into the card's random generator.
func SeedRandom(ctx context.Context, d apdu.Doer, seed []byte) error {
	_, err := call(ctx, d, "seeding the random generator", plain(0x73, 0, 0, seed, 0), 0)
	return err
}

func acl(b []byte) ACL { return ACL(binary.BigEndian.Uint16(b)) }

func appendACL(b []byte, as ...ACL) []byte {
	for _, a := range as {
		b = binary.BigEndian.AppendUint16(b, uint16(a))
	}
	return b
}
