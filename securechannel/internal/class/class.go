// Package class knows the class byte of commands under secure messaging
// (GlobalPlatform 2.3.1 §11.1.4).
package class

import (
	"fmt"

	"inkan/apdu"
)

const (
	further   = 0x40 // logical channels 4 to 19
	smFirst   = 0x04 // GlobalPlatform secure messaging, channels 0 to 3
	smFurther = 0x20 // the same, channels 4 to 19
)

// Check refuses a class that has no form with GlobalPlatform secure messaging,
// such as B0.
func Check(cla byte) error {
	if cla&further == 0 && cla&smFurther != 0 || cla == 0xFF {
		return fmt.Errorf("class %02X under secure messaging: %w", cla, apdu.ErrUnsupported)
	}
	return nil
}

// Secured reports whether the class says that the command carries secure messaging.
func Secured(cla byte) bool {
	if cla&further != 0 {
		return cla&smFurther != 0
	}
	return cla&smFirst != 0
}

// Secure sets the secure messaging bit.
func Secure(cla byte) byte {
	if cla&further != 0 {
		return cla | smFurther
	}
	return cla | smFirst
}

// Bare clears the secure messaging bit.
func Bare(cla byte) byte {
	if cla&further != 0 {
		return cla &^ smFurther
	}
	return cla &^ smFirst
}

// Basic is the class without secure messaging bit and with logical channel 0.
func Basic(cla byte) byte {
	if cla&further != 0 {
		return cla & 0x90
	}
	return cla &^ (smFirst | 0x03)
}

// MAC is the class that enters a C-MAC: channel 0, secure messaging bit 04,
// whatever the channel.
func MAC(cla byte) byte { return Basic(cla) | smFirst }
