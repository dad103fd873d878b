package securechannel

import (
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// CheckOption refuses protocols and options that are not implemented, by name.
// The error is apdu.ErrUnsupported.
func CheckOption(p Protocol, o Option) error {
	switch p {
	case SCP01:
		return scp01.Option(o).Check()
	case SCP02:
		return scp02.Option(o).Check()
	case SCP03:
		return scp03.Option(o).Check()
	}
	return fmt.Errorf("%v: %w", p, apdu.ErrUnsupported)
}

// CheckLevel refuses a level that the option of a protocol does not permit. The
// error is apdu.ErrUnsupported.
func CheckLevel(p Protocol, o Option, l Level) error {
	if err := CheckOption(p, o); err != nil {
		return err
	}
	ok := false
	switch l {
	case LevelAuthenticated, LevelCMAC, LevelCENC:
		ok = true
	case RMAC:
		ok = p == SCP02 && scp02.Option(o)&scp02.RMAC != 0
	case LevelCMACRMAC, LevelCENCRMAC:
		ok = p == SCP02 && scp02.Option(o)&scp02.RMAC != 0 || p == SCP03 && scp03.Option(o)&scp03.RMAC != 0
	case LevelFull:
		ok = p == SCP03 && scp03.Option(o)&scp03.RENC != 0
	}
	if !ok {
		return fmt.Errorf("%v i=%v at security level %v: %w", p, o, l, apdu.ErrUnsupported)
	}
	return nil
}

// size is the length of cryptograms and MACs, and of the host challenge.
func size(p Protocol, o Option) int {
	if p == SCP03 {
		return scp03.Option(o).Size()
	}
	return scp02.MACLength
}

// MaxCommandData is the largest number of plain data bytes of a short command
// under secure messaging: 255 less MAC and padding (SCP01: and length byte).
func MaxCommandData(p Protocol, o Option, l Level) int {
	if l&CMAC == 0 {
		return apdu.MaxShortData
	}
	return maxPlain(p, apdu.MaxShortData-size(p, o), l&CDEC != 0)
}

// MaxResponseData is the largest number of plain data bytes of a short response
// under secure messaging: 256 less MAC and padding.
func MaxResponseData(p Protocol, o Option, l Level) int {
	if l&RMAC == 0 {
		return apdu.MaxShortNe
	}
	return maxPlain(p, apdu.MaxShortNe-size(p, o), l&RENC != 0)
}

// maxPlain is how much fits into n bytes, at least one byte of padding (SCP01: the
// length byte) included where it is encrypted.
func maxPlain(p Protocol, n int, encrypted bool) int {
	if !encrypted {
		return n
	}
	block := 8
	if p == SCP03 {
		block = 16
	}
	return n/block*block - 1
}
