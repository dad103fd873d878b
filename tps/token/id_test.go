package token_test

import (
	"fmt"
	"regexp"
	"testing"

	"inkan/tps/token"
)

func TestNewID(t *testing.T) {
	t.Parallel()
	v7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	before := ""
	for range 10_000 {
		id := token.NewID()
		if !v7.MatchString(id) {
			t.Fatalf("%s is not a UUIDv7", id)
		}
		if id <= before {
			t.Fatalf("%s after %s", id, before)
		}
		before = id
	}
}

func Example() {
	p, err := token.ParsePolicy("pin_reset=no")
	fmt.Println(p, err)
	fmt.Println(token.Unformatted.MayBecome(token.Formatted), token.Unformatted.MayBecome(token.Active))
	// Output:
	// RE_ENROLL=YES;RENEW=NO;RENEW_KEEP_OLD_ENC_CERTS=YES;FORCE_FORMAT=NO;PIN_RESET=NO;RESET_PIN_RESET_TO_NO=NO <nil>
	// true false
}
