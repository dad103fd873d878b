package token_test

import (
	"testing"

	"inkan/tks"
	"inkan/tps/token"
)

func TestAppletKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]token.AppletKeys{
		"":              {},
		"piv:01:0A":     {Set: "piv", Version: 1, Algorithm: 0x0A},
		"factory:00:03": {Set: tks.Factory, Algorithm: 3},
	} {
		got, err := token.ParseAppletKeys(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"piv", "piv:1:0A", "piv:01:A", "Piv:01:0A", "piv:01:0A:", "piv:GG:0A"} {
		if _, err := token.ParseAppletKeys(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
