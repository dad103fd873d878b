package tps_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// lastDefect is the last number of the list of Dogtag's defects, tps-operations §24.
const lastDefect = 73

// withoutTest says of defects that no test is named after why there is none. Whoever
// builds what is missing takes its line out.
var withoutTest = map[int]string{
	21: "there is no external registration, and an operation asks for one login only",
	39: "recovery does not exist",
	40: "recovery does not exist",
	43: "there is no external registration",
	46: "there is no external registration",
	57: "transitions are tables in tps/token and no settings; TestMayBecome and TestOperatorChoices compare both with the specification's",
	62: "renewal recovers no keys: there is no key archive yet",
	65: "there is no connector to Dogtag's TKS",
	68: "roles are an enumeration in tps/auth; there is no list that could name another group",
}

var defectTest = regexp.MustCompile(`(?m)^func (TestDEF(\d\d)\w*)\(t \*testing\.T\)`)

// TestDefectList: every number has a test named after it somewhere in the tree, or a
// reason why there is none, and not both.
func TestDefectList(t *testing.T) {
	t.Parallel()
	tests := map[int][]string{}
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != ".." && strings.HasPrefix(e.Name(), ".") {
			return filepath.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range defectTest.FindAllStringSubmatch(string(source), -1) {
			var n int
			if _, err := fmt.Sscan(strings.TrimLeft(m[2], "0"), &n); err != nil {
				return fmt.Errorf("%s: %s has no number: %w", path, m[1], err)
			}
			tests[n] = append(tests[n], m[1])
		}
		return nil
	})
	must(t, err)
	for n := 1; n <= lastDefect; n++ {
		reason, names := withoutTest[n], tests[n]
		switch {
		case reason == "" && len(names) == 0:
			t.Errorf("DEF-%02d: no test TestDEF%02d… and no reason why not", n, n)
		case reason != "" && len(names) > 0:
			t.Errorf("DEF-%02d: %v, although %s", n, names, reason)
		}
		delete(tests, n)
	}
	for n, names := range tests {
		t.Errorf("DEF-%02d is not in the list: %v", n, names)
	}
}
