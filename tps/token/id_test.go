package token_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestDEF58: ids that many make at the same moment differ, and tell the time.
func TestDEF58(t *testing.T) {
	t.Parallel()
	const makers, each = 8, 2000
	ids := make(chan string, makers*each)
	before := time.Now().UnixMilli()
	var all sync.WaitGroup
	for range makers {
		all.Go(func() {
			for range each {
				ids <- token.NewID()
			}
		})
	}
	all.Wait()
	close(ids)
	after, seen := time.Now().UnixMilli(), map[string]bool{}
	for id := range ids {
		var moment int64
		if _, err := fmt.Sscanf(strings.Replace(id, "-", "", 1)[:12], "%x", &moment); err != nil || moment < before || moment > after+1000 { // ids made in a burst run ahead of the clock
			t.Fatalf("%s was made at %d, not from %d to %d (%v)", id, moment, before, after, err)
		}
		if seen[id] {
			t.Fatalf("%s was made twice", id)
		}
		seen[id] = true
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
