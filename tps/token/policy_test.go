package token_test

import (
	"strings"
	"testing"

	"inkan/tps/token"
)

const defaultText = "RE_ENROLL=YES;RENEW=NO;RENEW_KEEP_OLD_ENC_CERTS=YES;FORCE_FORMAT=NO;PIN_RESET=YES;RESET_PIN_RESET_TO_NO=NO"

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"empty", "", defaultText},
		{"blank", "  ", defaultText},
		{"default", defaultText, defaultText},
		{"one", "PIN_RESET=NO", strings.Replace(defaultText, "PIN_RESET=YES", "PIN_RESET=NO", 1)},
		{"case, spaces, other words", " re_enroll = false ; Renew=True", strings.Replace(strings.Replace(defaultText, "RE_ENROLL=YES", "RE_ENROLL=NO", 1), "RENEW=NO", "RENEW=YES", 1)},
		{"all turned", "RE_ENROLL=NO;RENEW=YES;RENEW_KEEP_OLD_ENC_CERTS=NO;FORCE_FORMAT=YES;PIN_RESET=NO;RESET_PIN_RESET_TO_NO=YES",
			"RE_ENROLL=NO;RENEW=YES;RENEW_KEEP_OLD_ENC_CERTS=NO;FORCE_FORMAT=YES;PIN_RESET=NO;RESET_PIN_RESET_TO_NO=YES"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := token.ParsePolicy(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	if p, err := token.ParsePolicy(""); err != nil || p != token.DefaultPolicy() {
		t.Errorf("the empty text is %+v, %v", p, err)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"RENEW", "RENEW=", "RENEW=MAYBE", "RENEW=YES;", ";", "REENROLL=YES", "=YES",
		"RENEW=YES;renew=NO", "RENEW=YES;RENEW=YES", "RENEW=YES,PIN_RESET=NO"} {
		if p, err := token.ParsePolicy(text); err == nil {
			t.Errorf("%q gave %s", text, p)
		}
	}
}

func FuzzPolicyCanonical(f *testing.F) {
	f.Add("")
	f.Add(defaultText)
	f.Add(" re_enroll = false ; Renew=True")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := token.ParsePolicy(text)
		if err != nil {
			return
		}
		again, err := token.ParsePolicy(p.String())
		if err != nil || again != p {
			t.Errorf("%q: %+v, again %+v, %v", text, p, again, err)
		}
	})
}

// TestDEF53: an entry without = is an error that quotes it, wherever it stands.
func TestDEF53(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"RENEW", "RENEW;PIN_RESET=NO", "PIN_RESET=NO;RENEW", "PIN_RESET=NO;;RENEW=YES", "PIN_RESET=NO;"} {
		p, err := token.ParsePolicy(text)
		if err == nil || !strings.Contains(err.Error(), "is not NAME=VALUE") || p != (token.Policy{}) {
			t.Errorf("%q: %s, %v", text, p, err)
		}
	}
}
