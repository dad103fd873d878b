package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/tps/audit"
)

func open(t *testing.T, dir string) *audit.File {
	t.Helper()
	l, err := audit.OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func record(t *testing.T, l *audit.File, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := l.Record(t.Context(), audit.Event{Name: n, Outcome: audit.Success}); err != nil {
			t.Fatal(err)
		}
	}
}

// names verifies the log and returns the names of its events.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	if _, err := audit.Scan(dir, func(e audit.Event) error { all = append(all, e.Name); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, audit.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, audit.FileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	at := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600))
	e := audit.Event{Time: at, Name: "TOKEN_FORMAT", Outcome: audit.Attempt, Subject: "alice", CUID: "00", Reference: "r", IP: "::1",
		Fields: map[string]string{"b": "line\nfeed\x00\xff", "a": "<&>"}}
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	record(t, l, "SECOND")
	lines := bytes.SplitAfter(read(t, dir), []byte("\n"))
	if len(lines) != 3 || len(lines[2]) != 0 {
		t.Fatalf("%d lines", len(lines))
	}
	var got audit.Event
	if err := json.Unmarshal(lines[0], &got); err != nil {
		t.Fatal(err)
	}
	e.Seq, e.Time, e.Prev = 1, at.UTC(), strings.Repeat("0", 64)
	e.Fields["b"] = "line\nfeed\x00\ufffd"
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", e); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if err := json.Unmarshal(lines[1], &got); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(bytes.TrimSuffix(lines[0], []byte("\n")))
	if got.Seq != 2 || got.Prev != hex.EncodeToString(sum[:]) || time.Since(got.Time) > time.Minute {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(filepath.Join(dir, audit.FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.Record(t.Context(), audit.Event{}); err == nil {
		t.Error("an event without a name")
	}
	big := map[string]string{"x": strings.Repeat("x", audit.MaxLine)}
	if err := l.Record(t.Context(), audit.Event{Name: "BIG", Fields: big}); err == nil {
		t.Error("a line that is too long")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(ctx, audit.Event{Name: "LATE"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	record(t, l, "ONE")
	l.Close()
	if err := l.Record(t.Context(), audit.Event{Name: "CLOSED"}); err == nil {
		t.Error("an event after Close")
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"ONE"}) {
		t.Errorf("got %v", got)
	}
	if _, err := audit.OpenFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestReopenContinues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 5 {
		l := open(t, dir)
		record(t, l, fmt.Sprint("E", 2*i), fmt.Sprint("E", 2*i+1))
		l.Close()
	}
	s, err := audit.Scan(dir, nil)
	if err != nil || s.Events != 10 || s.Torn != 0 || s.First.After(s.Last) {
		t.Errorf("%+v, %v", s, err)
	}
	last := bytes.Split(read(t, dir), []byte("\n"))[9]
	if sum := sha256.Sum256(last); s.Head != hex.EncodeToString(sum[:]) {
		t.Errorf("head %s", s.Head)
	}
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	long := audit.Event{Name: "LONG", Fields: map[string]string{"x": strings.Repeat("x", audit.MaxLine-300)}}
	for range 3 {
		if err := l.Record(t.Context(), long); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	b := read(t, dir)
	write(t, dir, b[:len(b)-1]) // the third is torn
	record(t, open(t, dir), "NEXT")
	if got := names(t, dir); !slices.Equal(got, []string{"LONG", "LONG", audit.Repaired, "NEXT"}) {
		t.Errorf("got %v", got)
	}
}

func TestTornLine(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	record(t, open(t, base), "ONE", "TWO")
	whole := read(t, base)
	first := bytes.IndexByte(whole, '\n') + 1
	zeros := bytes.Clone(whole)
	clear(zeros[first : first+20])
	type torn struct {
		name string
		log  []byte
		lost int
		left []string
	}
	tests := []torn{
		{"zeros behind", append(bytes.Clone(whole), make([]byte, 4096)...), 4096, []string{"ONE", "TWO"}},
		{"zeros in the last line", zeros, len(whole) - first, []string{"ONE"}},
		{"zeros only", make([]byte, 100), 100, nil},
	}
	for n := 1; n < first; n += 7 { // every cut, in steps
		tests = append(tests, torn{fmt.Sprintf("first %d", n), whole[:n], n, nil},
			torn{fmt.Sprintf("second %d", n), whole[:first+n], n, []string{"ONE"}})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, tt.log)
			s, err := audit.Scan(dir, nil)
			if err != nil || s.Torn != int64(tt.lost) || s.Events != int64(len(tt.left)) {
				t.Errorf("before: %+v, %v", s, err)
			}
			record(t, open(t, dir), "NEXT")
			if got, want := names(t, dir), append(slices.Clone(tt.left), audit.Repaired, "NEXT"); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			sum := sha256.Sum256(tt.log[len(tt.log)-tt.lost:])
			audit.Scan(dir, func(e audit.Event) error {
				if e.Name == audit.Repaired && (e.Fields["bytes"] != fmt.Sprint(tt.lost) || e.Fields["sha256"] != hex.EncodeToString(sum[:])) {
					t.Errorf("repair recorded as %v", e.Fields)
				}
				return nil
			})
		})
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	record(t, open(t, base), "ONE", "TWO", "THREE", "FOUR")
	lines := bytes.SplitAfter(read(t, base), []byte("\n"))[:4]
	join := func(order ...int) []byte {
		var b []byte
		for _, i := range order {
			b = append(b, lines[i]...)
		}
		return b
	}
	whole := join(0, 1, 2, 3)
	for name, log := range map[string][]byte{
		"changed":         bytes.Replace(whole, []byte("TWO"), []byte("TOO"), 1),
		"outcome":         bytes.Replace(whole, []byte("success"), []byte("failure"), 1),
		"removed":         join(0, 2, 3),
		"first removed":   join(1, 2, 3),
		"swapped":         join(0, 2, 1, 3),
		"doubled":         join(0, 1, 1, 2, 3),
		"renumbered":      bytes.Replace(join(0, 2), []byte(`"seq":3`), []byte(`"seq":2`), 1),
		"not JSON inside": append(append(join(0, 1), "rubbish\n"...), join(2, 3)...),
		"empty line":      append(append(join(0, 1), '\n'), join(2, 3)...),
		"zeros inside":    bytes.Replace(whole, []byte("TWO"), []byte{0, 0, 0}, 1),
		"endless line":    append(bytes.Clone(whole), bytes.Repeat([]byte("x"), 2*audit.MaxLine)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, log)
			if s, err := audit.Scan(dir, nil); !errors.Is(err, audit.ErrTampered) {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
	if _, err := audit.Scan(t.TempDir(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	stop := errors.New("stop")
	if s, err := audit.Scan(base, func(audit.Event) error { return stop }); err != stop || s.Events != 1 {
		t.Errorf("stopping: %+v, %v", s, err)
	}
}

func TestOpenRefusesForeignEnd(t *testing.T) {
	t.Parallel()
	for _, log := range []string{"rubbish\n", "{}\n", "\n", "null\n", `{"seq":0}` + "\n"} {
		dir := t.TempDir()
		write(t, dir, []byte(log))
		if _, err := audit.OpenFile(dir); err == nil {
			t.Errorf("%q is taken", log)
		}
		if got := string(read(t, dir)); got != log {
			t.Errorf("%q became %q", log, got)
		}
	}
}

func TestConcurrentRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				if err := l.Record(t.Context(), audit.Event{Name: fmt.Sprintf("E%d-%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all := names(t, dir)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 200 {
		t.Errorf("%d different events", n)
	}
}

func FuzzAuditLine(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-03-04T04:06:07Z","event":"E","outcome":"success","prev":"` + strings.Repeat("0", 64) + `"}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := audit.ParseLine(line)
		if err != nil {
			return
		}
		b, err := json.Marshal(e)
		if err != nil {
			return // a year that JSON cannot write
		}
		again, err := audit.ParseLine(b)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if again.Seq != e.Seq || again.Name != e.Name || again.Prev != e.Prev || !again.Time.Equal(e.Time) {
			t.Errorf("got %+v, want %+v", again, e)
		}
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		fmt.Println(err)
	}
	defer os.RemoveAll(dir)
	l, err := audit.OpenFile(dir)
	if err != nil {
		fmt.Println(err)
	}
	defer l.Close()
	fmt.Println(l.Record(context.Background(), audit.Event{Name: "TOKEN_FORMAT", Outcome: audit.Attempt}))
	fmt.Println(l.Record(context.Background(), audit.Event{Name: "TOKEN_FORMAT", Outcome: audit.Success}))
	s, err := audit.Scan(dir, nil)
	fmt.Println(s.Events, err)
	// Output:
	// <nil>
	// <nil>
	// 2 <nil>
}
