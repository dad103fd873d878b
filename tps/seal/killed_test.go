//go:build unix

package seal_test

import (
	"strings"
	"testing"

	"inkan/apdu/killtest"
	"inkan/tps/seal"
)

// killedCases are what is cut; each begins with the contents given.
var killedCases = map[string]struct {
	given []string
	do    func(*testing.T, *seal.Sealer)
	want  []string // what may be there afterwards; "" is no file
}{
	"first": {nil, func(t *testing.T, s *seal.Sealer) { save(t, s, "new") }, []string{"", "new"}},
	"save":  {[]string{"older", "old"}, func(t *testing.T, s *seal.Sealer) { save(t, s, "new") }, []string{"old", "new"}},
	"reseal": {[]string{"older", "old"}, func(t *testing.T, s *seal.Sealer) {
		_, err := s.Reseal(t.Context(), role, seal.ResealOptions{})
		must(t, err)
	}, []string{"old"}},
	"recover": {[]string{"older", "old"}, func(t *testing.T, s *seal.Sealer) {
		_, err := s.Recover(t.Context(), role, seal.Recovery{})
		must(t, err)
	}, []string{"old"}},
}

// TestKilled runs a writer as a process of its own that is killed at every step of
// its writes; then what is left opens, as the old content or as the new, and can be
// written again.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, c := range killedCases {
		t.Run("write="+name, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				b := newBench(t)
				save(t, b.sealer(), c.given...)
				if !killtest.Kill(t, "TestKilledChild", at, b.dir, b.anchor.dir, name) {
					if at < 4 {
						t.Errorf("there were %d steps only", at-1)
					}
					break
				}
				checkKilled(t, b, at, c.want)
			}
		})
	}
}

func checkKilled(t *testing.T, b *bench, at int, want []string) {
	t.Helper()
	s, got := b.sealer(), ""
	if f, err := s.Inspect(role); err == nil {
		o, err := s.Open(t.Context(), role)
		if err != nil {
			t.Errorf("killed at step %d: generation %d: %v", at, f.Generation, err)
			return
		}
		got = string(o.Bytes())
	}
	if !strings.Contains("\n"+strings.Join(want, "\n")+"\n", "\n"+got+"\n") {
		t.Errorf("killed at step %d: %q, want one of %q", at, got, want)
	}
	save(t, s, "after")
	wants(t, s, "after")
	if left, err := seal.Leftovers(b.dir); err != nil || len(left) > 0 {
		t.Errorf("killed at step %d: left %v, %v", at, left, err)
	}
}

// TestKilledChild is the writer that TestKilled kills.
func TestKilledChild(t *testing.T) {
	args, step := killtest.Child(t)
	if args == nil {
		return
	}
	b := &bench{dir: args[0], key: newKey("tms:seal:00112233:v01", 7), anchor: &fileAnchor{dir: args[1]}}
	s := b.sealer(func(c *seal.Config) { c.Step = func(seal.Role, string) { step() } })
	killedCases[args[2]].do(t, s)
}
