package apdu_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
)

func TestStatusWord(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		sw      apdu.StatusWord
		text    string
		retries int
		hasTry  bool
		warning bool
	}{
		{0x9000, "status 9000 (success)", 0, false, false},
		{0x6A82, "status 6A82 (file or application not found)", 0, false, false},
		{0x63C3, "status 63C3", 3, true, true},
		{0x63C0, "status 63C0", 0, true, true},
		{0x6300, "status 6300 (authentication failed)", 0, false, true},
		{0x6283, "status 6283 (card locked)", 0, false, true},
		{0x9C0F, "status 9C0F", 0, false, false},
	} {
		n, ok := tc.sw.Retries()
		if got := tc.sw.Error(); got != tc.text || n != tc.retries || ok != tc.hasTry || tc.sw.IsWarning() != tc.warning {
			t.Errorf("%v: %q, retries %d %v, warning %v", tc.sw, got, n, ok, tc.sw.IsWarning())
		}
	}
	if sw := apdu.StatusWord(0x6A82); sw.SW1() != 0x6A || sw.SW2() != 0x82 || sw.String() != "6A82" {
		t.Errorf("parts of %v: %02X %02X", sw, sw.SW1(), sw.SW2())
	}
}

func TestStatusError(t *testing.T) {
	t.Parallel()
	cmd := apdu.Command{CLA: 0x84, INS: 0xD8, P1: 0x01, P2: 0x81, Data: []byte{0xDE, 0xAD}}
	if err := (apdu.Response{SW: 0x9000}).Check(cmd); err != nil {
		t.Errorf("9000: %v", err)
	}
	err := fmt.Errorf("putting keys: %w", apdu.Response{SW: 0x6A80}.Check(cmd))
	if !errors.Is(err, apdu.SWWrongData) || errors.Is(err, apdu.SWFileNotFound) {
		t.Errorf("%v is not the right status", err)
	}
	var se *apdu.StatusError
	if !errors.As(err, &se) || se.INS != 0xD8 || se.SW != 0x6A80 {
		t.Errorf("%+v", se)
	}
	if s := fmt.Sprintf("%v %+v", err, se); strings.Contains(strings.ToUpper(s), "DEAD") {
		t.Errorf("error shows data: %s", s)
	}
}
