package hsm_test

import (
	"fmt"
	"testing"

	"inkan/tks/hsm"
)

func TestWrapperID(t *testing.T) {
	t.Parallel()
	id := hsm.WrapperID{Instance: [4]byte{0x00, 0x11, 0x22, 0x33}, Version: 1}
	if l, ckaID := id.Label(), fmt.Sprintf("%X", id.ID()); l != "tms:seal:00112233:v01" || ckaID != "5300112233010000" { // config-sealing.md §8
		t.Errorf("%s, %s", l, ckaID)
	}
	ckaID := id.ID()
	if got, err := hsm.ParseWrapperID(id.Label(), ckaID[:]); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	ckaID[5]++
	if _, err := hsm.ParseWrapperID(id.Label(), ckaID[:]); err == nil {
		t.Error("label and CKA_ID contradict each other")
	}
	for _, l := range []string{"", "tms:seal:00112233:v00", "tms:seal:0011223:v01", "tms:seal:0011223G:v01", "tms:seal:00112233:v1", "tms:master:site:v01", "tms:seal:00112233:v01 "} {
		if _, err := hsm.ParseWrapperLabel(l); err == nil {
			t.Errorf("%q was parsed", l)
		}
	}
}
