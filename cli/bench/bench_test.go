//go:build cgo && linux

package bench_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// aims are what the numbers have to reach.
var aims = []struct {
	key   string
	least bool // else at most
	value float64
}{
	{"trips_ratio", true, 8},
	{"tks_ratio_scp02", true, 0.8},
	{"tks_ratio_scp03", true, 0.8},
	{"pcsc_ratio", false, 1.2},
	{"cpu_ms_per_enroll", false, 5},
	{"session_kib", false, 80},
}

// size is how much is measured.
type size struct {
	rounds   int // of what takes seconds
	turns    int // of each of two things that are compared, some milliseconds long
	sessions int // people who are waited for
	cards    int // enrolled at once
	each     int // enrollments of each of them per round
	delay    time.Duration
}

var (
	full  = size{rounds: 5, turns: 400, sessions: 5000, cards: 64, each: 4, delay: 100 * time.Millisecond}
	small = size{rounds: 1, turns: 5, sessions: 20, cards: 4, each: 1, delay: time.Millisecond}
)

// results are the numbers, as they are measured.
type results map[string]float64

// put keeps a number and prints it.
func (r results) put(key, format string, v float64) {
	r[key] = v
	fmt.Printf("%s="+format+"\n", key, v)
}

// missed names the aims that were not reached.
func (r results) missed() (names []string) {
	for _, a := range aims {
		v, measured := r[a.key]
		if !measured || a.least && v < a.value || !a.least && v > a.value {
			names = append(names, a.key)
		}
	}
	return names
}

// TestBench measures everything in one run.
func TestBench(t *testing.T) {
	s := full
	if os.Getenv("INKAN_BENCH") != "1" {
		if os.Getenv("INKAN_REAL") != "1" {
			t.Skip("measures: set INKAN_BENCH=1, or INKAN_REAL=1 for a small run")
		}
		s = small
	}
	t.Setenv("INKAN_REAL", "1")
	r := results{}
	for _, part := range []struct {
		name string
		do   func(*testing.T, size, results)
	}{
		{"trips", measureTrips}, {"tks", measureKeyService}, {"wrap", measureWrap}, {"pcsc", measureReader},
		{"enroll", measureEnroll}, {"piv", measurePIV}, {"sessions", measureSessions},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.do(t, s, r) }) {
			return
		}
	}
	if s == small {
		return
	}
	for _, a := range aims {
		fmt.Printf("aim_%s=%v\n", a.key, a.value)
	}
	missed := r.missed()
	fmt.Printf("aims_missed=%s\n", strings.Join(missed, ","))
	if len(missed) > 0 {
		t.Errorf("not reached: %v", missed)
	}
}

// median sorts vs.
func median[T cmp.Ordered](vs []T) T {
	slices.Sort(vs)
	return vs[len(vs)/2]
}

// ratio measures two things in many short turns, each doing n of it, and returns how
// many times longer the first takes. It compares the lower quartiles of their turns:
// what takes longer was disturbed by others on the machine.
func ratio(turns, n int, first, second func(n int)) float64 {
	first(n)
	second(n) // warm
	var a, b []time.Duration
	for i := range turns {
		if i%2 == 0 {
			a = append(a, timed(func() { first(n) }))
		}
		b = append(b, timed(func() { second(n) }))
		if i%2 == 1 {
			a = append(a, timed(func() { first(n) }))
		}
	}
	return float64(quartile(a)) / float64(quartile(b))
}

// quartile is the lower one.
func quartile(vs []time.Duration) time.Duration {
	slices.Sort(vs)
	return vs[len(vs)/4]
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
