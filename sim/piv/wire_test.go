package piv_test

import (
	"bytes"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
)

// TestTraces replays what hosts send (piv-applet.md §7).
func TestTraces(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ model, trace string }{
		"yubico-piv-tool connects to 5.4": {"yubikey-5.4", `
			00A4040005A000000308 > 61114F06000010000100 79074F05A000000308 9000
			0020008000 > 63C3
			00FD000000 > 050403 9000
			00F8000000 > F0000001 9000`},
		"yubico-piv-tool connects to 5.7": {"yubikey-5.7", `
			00A4040005A000000308 > 61114F06000010000100 79074F05A000000308 9000
			00FD000000 > 050701 9000`},
		"OpenSC tries other drivers": {"yubikey-5.4", `
			00A40400077601FF00000000 > 6A82
			00A4040006A0000000010100 > 6A82
			00A404000BE82B0601040181C31F020100 > 6A82
			00A4040C0FD23300000045737445494420763335 > 6A82
			00A4040009A000000308000010 0000 > 61114F06000010000100 79074F05A000000308 9000
			00A404000BA000000308000010000100 > 61114F06000010000100 79074F05A000000308 9000
			00CB3FFF035C017E08 > 7E124F0BA0000003 610C
			00CB3FFF035C017E14 > 7E124F0BA000000308000010000100 5F2F024000 9000
			00CB3FFF055C035FC10C08 > 6A82
			00200080 > 63C3`},
		"no manager": {"yubikey-5.4", `
			00A4040008A00000015100000000 > 6A82
			00A4040000 > 6A82
			00A4040005A000000308 > 61…9000
			80CA9F7F00 > 6E00
			8050000008000102030405060700 > 6E00
			00CA9F7F00 > 6D00
			0CCB3FFF035C017E00 > 6882
			00EE000000 > 6D00`},
		"metadata of 5.4": {"yubikey-5.4", `
			00F7008000 > 0101FF 050101 06020303 9000
			00F7008100 > 0101FF 050101 06020303 9000
			00F7009B00 > 010103 02020001 050101 9000
			00F7009A00 > 6A88
			00F7008500 > 6A88
			00F7007700 > 6B00`},
		"metadata of 5.7": {"yubikey-5.7", `00F7009B00 > 01010A 02020001 050101 9000`},
		"data objects": {"yubikey-5.4", `
			00CB3FFF055C035FC10200 > 6A82
			00CB3FFF055C035FC10900 > 6982
			00CB3FFF055C035FC10300 > 6982
			00CB3FFF055C035FC12100 > 6982
			00CB3FFF055C035FC10800 > 6982
			0020008008313233343536FFFF > 9000
			00CB3FFF055C035FC10900 > 6A82
			00CB3FFE055C035FC10900 > 6A86
			00CB3FFF035C0100 > 6A82
			00CB3FFF025C00 > 6A80
			00CB3FFF065C0401020304 > 6A80
			00DB3FFF095C035FC1025302AABB > 6982`},
		"moving keys came with 5.7": {"yubikey-5.4", `00F6FF9A00 > 6D00`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCard(t, tc.model)
			for line := range strings.Lines(tc.trace) {
				if command, answer, ok := strings.Cut(strings.TrimSpace(line), ">"); ok {
					c.want(command, strings.TrimSpace(answer))
				}
			}
		})
	}
}

// TestBeforeSelect: nothing is selected when a YubiKey gets power.
func TestBeforeSelect(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	check(t, c.sim.Reset(t.Context()))
	c.want("00CB3FFF035C017E08", "6D00")
	c.want("00CADF3005", "6D00")
	c.want("0020008000", "6D00")
}

// TestLongData: chaining in, 61xx out, Le taken literally.
func TestLongData(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	content := bytes.Repeat([]byte{0xA5}, 700)
	check(t, piv.PutData(t.Context(), c, piv.SecurityObject, content))
	got, err := piv.GetData(t.Context(), c, piv.SecurityObject)
	check(t, err)
	same(t, "object", got, content)
	c.want("00CB3FFF055C035FC10608", "538202BC A5A5A5A5 6100")
	c.want("00C0000000", strings.Repeat("A5", 256)+"6100")
	c.want("00C0000010", strings.Repeat("A5", 16)+"6100")
	c.want("00FD000000", "050403 9000") // drops the rest
	c.want("00C0000000", "6985")
	c.want("00CB3FFF055C035FC106", "538202BC"+strings.Repeat("A5", 252)+"6100") // no Le at all

	c.want("10DB3FFF045C035FC1", "9000")
	c.want("00DB3FFF0506 5302 AABB", "9000")
	c.want("00CB3FFF055C035FC10600", "5302AABB9000")
	c.want("10DB3FFF045C035FC1", "9000")
	c.want("00FD000000", "050403 9000") // ends the chain
	c.want("00DB3FFF0506 5302 CCDD", "6A80")
	c.want("00CB3FFF055C035FC10600", "5302AABB9000")
}

func TestObjects(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	refused(t, "PUT DATA without management key", piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}), apdu.SWSecurityStatus)
	c.manage()
	check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1, 2, 3}))
	check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, nil))
	if _, err := piv.GetData(t.Context(), c, piv.CHUIDObject); !piv.IsAbsent(err) {
		t.Errorf("a deleted object: %v", err)
	}
	refused(t, "writing discovery", piv.PutData(t.Context(), c, piv.Discovery, []byte{1}), apdu.SWFileNotFound)
	refused(t, "an object of 3100 bytes", piv.PutData(t.Context(), c, piv.CHUIDObject, make([]byte, 3100)), apdu.SWNoMemory)
	check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, make([]byte, 3052)))
	check(t, piv.PutData(t.Context(), c, piv.PrintedInformation, []byte{0x88}))
	_, err := piv.GetData(t.Context(), c, piv.PrintedInformation)
	refused(t, "printed information without PIN", err, apdu.SWSecurityStatus)
	full := false
	for n := 1; n <= piv.MaxRetired && !full; n++ {
		err := piv.PutData(t.Context(), c, piv.Retired(n).Certificate(), make([]byte, 3000))
		if full = err != nil; full {
			refused(t, "a full card", err, apdu.SWNoMemory)
		}
	}
	if !full {
		t.Error("the card takes 20 objects of 3000 bytes")
	}
	got, err := piv.GetData(t.Context(), c, piv.CHUIDObject)
	check(t, err)
	same(t, "an old object on a full card", got, make([]byte, 3052))
}
