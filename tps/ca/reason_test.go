package ca_test

import (
	"testing"

	"inkan/tps/ca"
)

func TestReason(t *testing.T) {
	t.Parallel()
	for r, name := range map[ca.Reason]string{0: "unspecified", 1: "keyCompromise", 3: "affiliationChanged", 4: "superseded",
		5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL"} {
		if got := r.String(); got != name {
			t.Errorf("%d is %q", int(r), got)
		}
		if got, err := ca.ParseReason(name); err != nil || got != r {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, s := range []string{"key-compromise", "KEYCOMPROMISE", "Key-Compromise"} {
		if got, err := ca.ParseReason(s); err != nil || got != ca.ReasonKeyCompromise {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "1", "stolen", "key compromise"} {
		if got, err := ca.ParseReason(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	if got := ca.Reason(2).String(); got != "reason 2" {
		t.Errorf("an unknown reason is %q", got)
	}
}
