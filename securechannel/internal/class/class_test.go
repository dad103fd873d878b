package class_test

import (
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/securechannel/internal/class"
)

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ plain, secured, basic, mac byte }{
		{0x80, 0x84, 0x80, 0x84}, {0x83, 0x87, 0x80, 0x84}, {0x00, 0x04, 0x00, 0x04}, {0x02, 0x06, 0x00, 0x04},
		{0xC0, 0xE0, 0x80, 0x84}, {0xCF, 0xEF, 0x80, 0x84}, {0x40, 0x60, 0x00, 0x04}, {0x4F, 0x6F, 0x00, 0x04},
		{0x10, 0x14, 0x10, 0x14}, {0x90, 0x94, 0x90, 0x94},
	} {
		for _, cla := range []byte{tc.plain, tc.secured} {
			if class.Check(cla) != nil || class.Secure(cla) != tc.secured || class.Bare(cla) != tc.plain ||
				class.Basic(cla) != tc.basic || class.MAC(cla) != tc.mac || class.Secured(cla) != (cla == tc.secured) {
				t.Errorf("class %02X: %v %02X %02X %02X %02X %t", cla, class.Check(cla), class.Secure(cla),
					class.Bare(cla), class.Basic(cla), class.MAC(cla), class.Secured(cla))
			}
		}
	}
	for _, cla := range []byte{0xB0, 0xA0, 0x20, 0xFF} {
		if err := class.Check(cla); !errors.Is(err, apdu.ErrUnsupported) {
			t.Errorf("class %02X: %v", cla, err)
		}
	}
}
