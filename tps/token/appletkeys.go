package token

import (
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu/gp"
	"inkan/tks"
)

// AppletKeys says what the keys are that an applet has of its own, beside those of the
// card manager: out of which version of a key set the key service derives them for this
// card, and for which algorithm. tks.Factory are the published ones of a new applet;
// the zero value says that nothing is known.
type AppletKeys struct {
	Set       tks.KeySetName
	Version   gp.KeyVersion // 00 with tks.Factory
	Algorithm byte          // as the applet counts algorithms
}

// IsZero reports that nothing is known.
func (k AppletKeys) IsZero() bool { return k == AppletKeys{} }

// String is SET:VERSION:ALGORITHM in hexadecimal, "piv:01:0A"; empty for the zero value.
func (k AppletKeys) String() string {
	if k.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s:%s:%02X", k.Set, k.Version, k.Algorithm)
}

// ParseAppletKeys reads what String writes.
func ParseAppletKeys(s string) (AppletKeys, error) {
	if s == "" {
		return AppletKeys{}, nil
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return AppletKeys{}, fmt.Errorf("applet keys %q: want SET:VERSION:ALGORITHM", s)
	}
	set, err := tks.ParseKeySetName(parts[0])
	if err != nil {
		return AppletKeys{}, fmt.Errorf("applet keys %q: %w", s, err)
	}
	v, err1 := strconv.ParseUint(parts[1], 16, 8)
	alg, err2 := strconv.ParseUint(parts[2], 16, 8)
	if err1 != nil || err2 != nil || len(parts[1]) != 2 || len(parts[2]) != 2 {
		return AppletKeys{}, fmt.Errorf("applet keys %q: version and algorithm are two hexadecimal digits each", s)
	}
	return AppletKeys{Set: set, Version: gp.KeyVersion(v), Algorithm: byte(alg)}, nil
}
