package tps_test

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/coolkey"
	"inkan/tps/profile"
	"inkan/tps/token"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// pureFamily has nothing but what a planner may use.
type pureFamily struct{ tps.Family }

func (pureFamily) Name() tps.FamilyName { return coolkey.Name }

func (pureFamily) Check(c tps.Contents, p profile.Profile) error {
	return coolkey.Family{}.Check(c, p)
}

func (pureFamily) CanImport(version string) error { return coolkey.Family{}.CanImport(version) }

func (pureFamily) Older(version, than string) bool { return coolkey.Family{}.Older(version, than) }

const wantedApplet, otherApplet = "1.4.66000001", "1.3.44724dde"

// facts are those of an operation on a card with factory keys and the wanted
// applet, known as FORMATTED, for ada; edits are made to the profile.
func facts(t testing.TB, op tps.Operation, edits map[string]string, change ...func(*tps.Facts)) tps.Facts {
	t.Helper()
	p, err := profile.Decode([]byte(ecProfile("test", edits)))
	must(t, err)
	kdd := gp.KDD{1}
	ada := auth.Person{ID: "ada", Name: "Ada Lovelace"}
	f := tps.Facts{
		Asked:    tps.Request{Operation: op},
		Card:     tps.Card{CUID: apdu.CUID{1}, Protocol: securechannel.SCP03, Option: 0x70, KeySet: tks.Factory},
		Record:   &token.Token{CUID: apdu.CUID{1}, KDD: &kdd, State: token.Formatted, KeySet: tks.Factory, KeyInfo: token.KeyInfo{0xFF, 3, 0x70}},
		Contents: tps.Contents{Present: true, Version: wantedApplet, IssuerURL: p.Applet.IssuerURL}, Profile: p, Person: ada, Holder: ada, Family: pureFamily{}, Lab: true,
		Bound: func(n tks.KeySetName) bool { return n != tks.Factory },
	}
	proves(tks.Factory, 0xFF)(&f)
	for _, c := range change {
		c(&f)
	}
	return f
}

// proves has the card prove keys.
func proves(set tks.KeySetName, v gp.KeyVersion) func(*tps.Facts) {
	return func(f *tps.Facts) {
		f.Card.KeySet = set
		f.Card.Proved = &securechannel.InitUpdate{KDD: gp.KDD{1}, KeyVersion: v, Protocol: securechannel.SCP03, Option: 0x70}
		f.Card.Versions = []tps.KeySetInfo{{Version: v, Type: 0x88, Length: 16}}
	}
}

func unknown(f *tps.Facts) { f.Record, f.Contents = nil, tps.Contents{} }

func active(f *tps.Facts) {
	f.Record.State, f.Record.UserID = token.Active, "ada"
	f.Contents.HasPIN, f.Contents.Personalized = true, true
	f.Contents.Slots = []tps.Slot{{Number: 2, Bits: 256}, {Number: 4, Bits: 256}}
}

func applet(version string) func(*tps.Facts) {
	return func(f *tps.Facts) { f.Contents.Version = version }
}

// planCase is a situation and what is done in it.
type planCase struct {
	name  string
	facts tps.Facts
}

// situations are those of every operation.
func situations(t testing.TB) (cases []planCase) {
	add := func(name string, op tps.Operation, edits map[string]string, change ...func(*tps.Facts)) {
		cases = append(cases, planCase{fmt.Sprintf("%s: %s", op, name), facts(t, op, edits, change...)})
	}
	rekey := func(on string) map[string]string {
		return map[string]string{`change_on = ["key-changeover"]`: fmt.Sprintf("change_on = [%q]", on)}
	}
	wide := map[string]string{`set = "site"`: `set = "wide"`, "\nversion = 2\n": "\nversion = 3\n"}
	noDowngrade := map[string]string{"[applet]": "[applet]\ndowngrade = false"}
	noEmpty := map[string]string{"[applet]": "[applet]\nempty_card = false"}
	noFile := func(f *tps.Facts) { f.Ready.Applet = fs.ErrNotExist }
	both := func(f *tps.Facts) {
		proves("wide", 3)(f)
		f.Card.OldVersions = []gp.KeyVersion{2}
	}

	add("unknown card", tps.OpFormat, nil, unknown)
	add("known", tps.OpFormat, nil)
	add("active", tps.OpFormat, nil, active)
	add("other applet", tps.OpFormat, nil, applet(otherApplet))
	add("newer applet", tps.OpFormat, nil, applet(newApplet))
	add("newer applet, no downgrade", tps.OpFormat, noDowngrade, applet(newApplet))
	add("newer build, no downgrade", tps.OpFormat, noDowngrade, applet("1.4.66000002"))
	add("older applet, no downgrade", tps.OpFormat, noDowngrade, applet(otherApplet))
	add("applet without a version, no downgrade", tps.OpFormat, noDowngrade, applet("0.0.ffffffff"))
	add("unknown card, no empty ones", tps.OpFormat, noEmpty, unknown)
	add("applet gone, no empty ones", tps.OpFormat, noEmpty, func(f *tps.Facts) { f.Contents = tps.Contents{} })
	add("no load file", tps.OpFormat, nil, noFile)
	add("with new keys", tps.OpFormat, rekey("format"))
	add("has the new keys", tps.OpFormat, rekey("format"), proves("site", 2))
	add("record without keys", tps.OpFormat, nil, func(f *tps.Facts) { f.Record.KDD, f.Record.KeyInfo = nil, nil })

	add("unknown card", tps.OpEnroll, nil, unknown)
	add("known", tps.OpEnroll, nil)
	add("unformatted", tps.OpEnroll, nil, func(f *tps.Facts) { f.Record.State = token.Unformatted })
	add("active", tps.OpEnroll, nil, active)
	add("active, other applet", tps.OpEnroll, nil, active, applet(otherApplet))
	add("active, other applet that may stay", tps.OpEnroll, map[string]string{"[applet]": "[applet]\nupdate = false"}, active, applet(otherApplet))
	add("active, newer applet", tps.OpEnroll, nil, active, applet(newApplet))
	add("active, newer applet, no downgrade", tps.OpEnroll, noDowngrade, active, applet(newApplet))
	add("active, newer applet that may stay", tps.OpEnroll, map[string]string{"[applet]": "[applet]\nupdate = false\ndowngrade = false"}, active, applet(newApplet))
	add("active, no load file", tps.OpEnroll, nil, active, noFile)
	add("active, other applet and no load file", tps.OpEnroll, nil, active, applet(otherApplet), noFile)
	add("active, format forced", tps.OpEnroll, nil, active, func(f *tps.Facts) { f.Record.Policy = "FORCE_FORMAT=YES" })
	add("active, keys of another size", tps.OpEnroll, nil, active, func(f *tps.Facts) { f.Contents.Slots[0].Bits = 2048 })
	add("active, applet gone", tps.OpEnroll, nil, active, func(f *tps.Facts) { f.Contents = tps.Contents{} })
	add("with new keys", tps.OpEnroll, rekey("enroll"))
	add("outside a lab, with new keys", tps.OpEnroll, rekey("enroll"), func(f *tps.Facts) { f.Lab = false })

	for _, c := range renewals() {
		add(c.name, tps.OpRenew, c.edits, append([]func(*tps.Facts){active, certified}, c.change...)...)
	}

	add("active", tps.OpPINReset, nil, active)
	add("active, other applet", tps.OpPINReset, nil, active, applet(otherApplet))
	add("with new keys", tps.OpPINReset, rekey("pin-reset"), active)

	add("known", tps.OpKeyChangeover, nil)
	add("has them", tps.OpKeyChangeover, nil, proves("site", 2))
	add("128 to 256 bits", tps.OpKeyChangeover, wide, active, proves("site", 2))
	add("128 to 256 bits, old ones left", tps.OpKeyChangeover, wide, active, both)
	return cases
}

// planned shows a plan, or why there is none.
func planned(f tps.Facts) string {
	plan, err := tps.MakePlan(f)
	if err != nil {
		return fmt.Sprintf("status %d: %v", tps.StatusOf(err), err)
	}
	var names []string
	for _, n := range plan.Names() {
		names = append(names, string(n))
	}
	return strings.Join(names, ", ")
}

// TestPlans compares the plan of every situation with the golden file, and sees
// that planning changes nothing and says the same again.
func TestPlans(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, c := range slices.Concat(situations(t), resumptions(t), importing(t)) {
		before := fmt.Sprintf("%+v", c.facts)
		first := planned(c.facts)
		if again := planned(c.facts); again != first {
			t.Errorf("%s: planned as %q and as %q", c.name, first, again)
		}
		if after := fmt.Sprintf("%+v", c.facts); after != before {
			t.Errorf("%s: the facts were %s, are %s", c.name, before, after)
		}
		fmt.Fprintf(&out, "%s\n\t%s\n", c.name, first)
	}
	path := filepath.Join("testdata", "plans.golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got := out.String(); got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("line %d of the plans:\n%s\nwant\n%s\n(-update rewrites %s)", i+1, g[i], w[i], path)
			}
		}
		t.Fatalf("%d lines of plans, want %d", len(g), len(w))
	}
}

// resumptions are the enrollments of a new card that ended after each step, known
// to have happened or only begun.
func resumptions(t testing.TB) (cases []planCase) {
	edits := map[string]string{`change_on = ["key-changeover"]`: `change_on = ["enroll"]`}
	plan, err := tps.MakePlan(facts(t, tps.OpEnroll, edits, unknown))
	must(t, err)
	for _, confirmed := range []bool{false, true} {
		f := facts(t, tps.OpEnroll, edits, unknown)
		f.Open = &token.Journal{ID: "j", CUID: f.Card.CUID, Operation: string(tps.OpEnroll), UserID: "ada"}
		for _, s := range plan {
			if s.Kind == tps.Harmless {
				continue
			}
			what := "begun"
			if confirmed {
				what = "done"
			}
			before := f
			happens(&f, s, confirmed)
			cases = append(cases, planCase{fmt.Sprintf("enroll: resumed, %s %s", s.Name, what), clone(f)})
			if !confirmed { // then it did
				f = before
				happens(&f, s, true)
			}
		}
	}
	return cases
}

func clone(f tps.Facts) tps.Facts {
	j := *f.Open
	f.Open = &j
	return f
}

// happens has a step of an enrollment begin, or begin and end.
func happens(f *tps.Facts, s tps.Step, confirmed bool) {
	j := *f.Open
	if s.Kind == tps.Irreversible {
		j.Entries = append(slices.Clone(j.Entries), token.Entry{Step: string(s.Name), Confirmed: confirmed, Data: maps.Clone(s.Intent)})
	}
	f.Open = &j
	kdd := gp.KDD{1}
	switch name, kind, _ := strings.Cut(string(s.Name), " "); {
	case !confirmed:
	case tps.StepName(name) == tps.StepRegister:
		f.Record = &token.Token{CUID: f.Card.CUID, KDD: &kdd, State: token.Unformatted, KeySet: tks.Factory, KeyInfo: token.KeyInfo{0xFF, 3, 0x70}}
	case tps.StepName(name) == tps.StepPrepare:
		f.Contents = tps.Contents{Present: true, Version: wantedApplet, IssuerURL: f.Profile.Applet.IssuerURL}
	case tps.StepName(name) == tps.StepChangeKeys:
		proves("site", 2)(f)
	case tps.StepName(name) == tps.StepSetPIN:
		f.Contents.HasPIN = true
	case tps.StepName(name) == tps.StepGenerateKey:
		f.Contents.Slots = append(slices.Clone(f.Contents.Slots), tps.Slot{Number: map[string]int{"signing": 2, "encryption": 4}[kind], Bits: 256})
	}
}

// TestRights is who may do what to whose card.
func TestRights(t *testing.T) {
	t.Parallel()
	people := map[string]auth.Person{
		"owner": {ID: "ada"}, "other": {ID: "bob"}, "operator": {ID: "olga", Roles: []auth.Role{auth.Operator}},
		"agent": {ID: "anna", Roles: []auth.Role{auth.Agent}}, "admin": {ID: "adam", Roles: []auth.Role{auth.Admin}},
	}
	unfinished := func(op tps.Operation) func(*tps.Facts) {
		return func(f *tps.Facts) {
			f.Open = &token.Journal{ID: "j", CUID: f.Card.CUID, Operation: string(op), UserID: "ada"}
		}
	}
	const ok, notKnown, notOwner, login = tps.StatusOK, tps.StatusUnknownToken, tps.StatusNotOwner, tps.StatusLogin
	type may struct{ owner, other, operator, agent, admin tps.Status }
	everybody := may{}
	for _, c := range []struct {
		name   string
		op     tps.Operation
		edits  map[string]string
		change []func(*tps.Facts)
		want   may
	}{
		{"free card", tps.OpFormat, nil, nil, everybody},
		{"free card", tps.OpEnroll, nil, nil, everybody},
		{"free card", tps.OpKeyChangeover, nil, nil, everybody},
		{"owned card", tps.OpFormat, nil, []func(*tps.Facts){active}, may{ok, notOwner, ok, ok, notOwner}},
		{"owned card", tps.OpEnroll, nil, []func(*tps.Facts){active}, may{ok, notOwner, notOwner, notOwner, notOwner}},
		{"owned card", tps.OpPINReset, nil, []func(*tps.Facts){active}, may{ok, notOwner, notOwner, notOwner, notOwner}},
		{"owned card", tps.OpKeyChangeover, nil, []func(*tps.Facts){active}, may{ok, notOwner, ok, ok, notOwner}},
		{"unknown card, anyone", tps.OpFormat, nil, []func(*tps.Facts){unknown}, everybody},
		{"unknown card, anyone", tps.OpEnroll, nil, []func(*tps.Facts){unknown}, everybody},
		{"unknown card, operator", tps.OpFormat, allowing("operator"), []func(*tps.Facts){unknown}, may{notKnown, notKnown, ok, ok, notKnown}},
		{"unknown card, operator", tps.OpEnroll, allowing("operator"), []func(*tps.Facts){unknown}, may{notKnown, notKnown, ok, ok, notKnown}},
		{"unknown card, never", tps.OpFormat, allowing("never"), []func(*tps.Facts){unknown}, may{notKnown, notKnown, notKnown, notKnown, notKnown}},
		{"unknown card", tps.OpPINReset, nil, []func(*tps.Facts){unknown}, may{notKnown, notKnown, notKnown, notKnown, notKnown}},
		{"unknown card", tps.OpKeyChangeover, nil, []func(*tps.Facts){unknown}, may{notKnown, notKnown, notKnown, notKnown, notKnown}},
		{"unfinished on a free card", tps.OpEnroll, nil, []func(*tps.Facts){unfinished(tps.OpEnroll)}, may{ok, notOwner, ok, ok, notOwner}},
		{"unfinished on an owned card", tps.OpEnroll, nil, []func(*tps.Facts){active, unfinished(tps.OpEnroll)}, may{ok, notOwner, ok, ok, notOwner}},
		{"unfinished on an owned card", tps.OpFormat, nil, []func(*tps.Facts){active, unfinished(tps.OpFormat)}, may{ok, notOwner, ok, ok, notOwner}},
		{"unfinished on an owned card", tps.OpPINReset, nil, []func(*tps.Facts){active, unfinished(tps.OpPINReset)}, may{ok, notOwner, notOwner, notOwner, notOwner}},
		{"for operators only", tps.OpFormat, map[string]string{"[card]": "[auth]\nrole = \"operator\"\n[card]"}, nil, may{login, login, ok, login, login}},
	} {
		for who, want := range map[string]tps.Status{"owner": c.want.owner, "other": c.want.other, "operator": c.want.operator, "agent": c.want.agent, "admin": c.want.admin} {
			f := facts(t, c.op, c.edits, c.change...)
			f.Person = people[who]
			_, err := tps.MakePlan(f)
			got := tps.StatusOK
			if err != nil {
				got = tps.StatusOf(err)
			}
			if got != want {
				t.Errorf("%s, %s by the %s: status %d (%v), want %d", c.name, c.op, who, got, err, want)
			}
		}
	}
}

func allowing(whom string) map[string]string {
	return map[string]string{`allow_unknown = "anyone"`: fmt.Sprintf("allow_unknown = %q", whom)}
}

// TestRefusedStates is which states an operation does not take, and why.
func TestRefusedStates(t *testing.T) {
	t.Parallel()
	all := []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset, tps.OpKeyChangeover, tps.OpRenew}
	for state, want := range map[token.State][]tps.Status{
		token.Unformatted: {0, 0, tps.StatusNotPINResettable, 0, 26},
		token.Formatted:   {0, 0, tps.StatusNotPINResettable, 0, 26},
		token.Active:      {0, 0, 0, 0, 0},
		token.Suspended:   {26, 26, 26, 26, 26},
		token.Damaged:     {26, 26, 26, 26, 26},
		token.PermLost:    {32, 32, 32, 32, 32},
		token.Terminated:  {35, 35, 35, 35, 35},
	} {
		for i, op := range all {
			f := facts(t, op, nil, active, certified, func(f *tps.Facts) { f.Record.State = state })
			got := tps.StatusOK
			if _, err := tps.MakePlan(f); err != nil {
				got = tps.StatusOf(err)
			}
			if got != want[i] {
				t.Errorf("%s of a card that is %s: status %d, want %d", op, state, got, want[i])
			}
		}
	}
}

// TestPlanSteps: every step that acts says what it is for people, log and audit.
func TestPlanSteps(t *testing.T) {
	t.Parallel()
	for _, c := range situations(t) {
		plan, err := tps.MakePlan(c.facts)
		if err != nil {
			continue
		}
		for _, s := range plan {
			if s.Do == nil || s.Name == "" || s.Fail == 0 || s.Kind == tps.Irreversible && s.Event == "" {
				t.Errorf("%s: step %+v", c.name, s)
			}
		}
		if last := plan[len(plan)-1]; last.Name != tps.StepRecord || last.Kind != tps.Settling {
			t.Errorf("%s ends with %s", c.name, last.Name)
		}
	}
}
