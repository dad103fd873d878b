//go:build unix

package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// holder is a person with a card in a reader.
type holder struct {
	*site
	story
	slot int
	who  person // "" = the card's owner
	sim  *process
	cuid string
	pin  string
}

// as is the same card with somebody else logging in.
func (p *holder) as(who person) *holder {
	other := *p
	other.who = who
	return &other
}

// outcome is what inkan card OPERATION --json prints.
type outcome struct {
	Operation, Result string
	Status            int
	Seconds           float64
	APDUs             int
	Error, Card, Next string
}

// cardInfo is what inkan card info --json prints.
type cardInfo struct {
	ATR, CUID string
	Simulated bool
	Protocols []string
	Keys      []string `json:"key_versions"`
	Applet    *struct {
		Version, State, PIN string
		Certificates        []struct {
			Number               int
			Subject, Serial, Key string
		}
	}
}

func (p *holder) reader() string { return p.pcsc.Readers[p.slot] }

// plug puts the software card into the reader, a new one the first time, and waits
// until card list shows it.
func (p *holder) plug(t *testing.T) {
	t.Helper()
	cmd := p.command("sim", "run", "--vpcd", p.pcsc.Addr(p.slot), "--image", filepath.Join(p.dir, p.name+".img"), "--model", p.model)
	var said output
	p.sim = startProcess(t, cmd, &p.said, io.MultiWriter(&said, &p.said))
	p.awaitState(t, "card present")
	if text := string(said.bytes()); !strings.Contains(text, "goes into the reader") || !strings.Contains(text, "The reader has it.") {
		t.Errorf("inkan sim run says:\n%s", text)
	}
}

// pull takes the card out as a hand does: at once, whatever it is doing. When it
// returns, pcscd, which asks the reader every 400 ms, has noticed.
func (p *holder) pull(t *testing.T) {
	t.Helper()
	p.sim.end(t, syscall.SIGKILL)
	p.awaitState(t, "empty")
	time.Sleep(900 * time.Millisecond)
}

// takeOut ends the software card in order.
func (p *holder) takeOut(t *testing.T) {
	t.Helper()
	if err := p.sim.end(t, os.Interrupt); err != nil {
		t.Errorf("inkan sim run ended with %v", err)
	}
	p.awaitState(t, "empty")
}

// awaitState waits until card list shows the reader in a state.
func (p *holder) awaitState(t *testing.T, state string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r := p.readerState(t)
		if r.State == state && (r.ATR != "") == (state == "card present") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("reader %+v, want it %s; inkan sim run: %v", r, state, p.sim.cmd.ProcessState)
		}
	}
}

// readerState is what card list shows of the card's reader.
type readerState struct{ Reader, State, ATR string }

func (p *holder) readerState(t *testing.T) readerState {
	t.Helper()
	var all []readerState
	p.query(t, &all, "card", "list")
	for _, r := range all {
		if r.Reader == p.reader() {
			return r
		}
	}
	t.Fatalf("reader %q is not among %v", p.reader(), all)
	return readerState{}
}

func (p *holder) info(t *testing.T) cardInfo {
	t.Helper()
	var i cardInfo
	p.query(t, &i, "card", "info", "--reader", p.reader())
	if p.cuid != "" && i.CUID != p.cuid {
		t.Fatalf("another card is in the reader: %+v", i)
	}
	return i
}

// arguments are those of an operation with the server.
func (p *holder) arguments(t *testing.T, op, profile string) []string {
	t.Helper()
	who := p.who
	if who.id == "" {
		who = person{p.user, p.password(p.user)}
	}
	args := []string{
		"--json", "card", op, "--reader", p.reader(), "--server", p.url(), "--fingerprint", p.fingerprint,
		"--user", who.id, "--password-file", p.secretFile(t, who.password),
	}
	if profile != "" {
		args = append(args, "--profile", profile)
	}
	if op == "enroll" || op == "reset-pin" {
		if p.pin == "" {
			p.pin = p.secret("First-" + p.name + "!")
		}
		args = append(args, "--pin-file", p.secretFile(t, p.pin))
	}
	return args
}

// start begins an operation. The function it returns waits for its end.
func (p *holder) start(t *testing.T, op, profile string) (end func(*testing.T) outcome) {
	t.Helper()
	cmd := p.command(p.arguments(t, op, profile)...)
	var out bytes.Buffer
	run := startProcess(t, cmd, &out, &p.said)
	return func(t *testing.T) outcome {
		t.Helper()
		<-run.done
		p.said.Write(out.Bytes())
		return decodeOutcome(t, out.String())
	}
}

func decodeOutcome(t *testing.T, text string) outcome {
	t.Helper()
	var o outcome
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("the outcome is no JSON: %v\n%s", err, text)
	}
	return o
}

// done runs an operation that has to succeed.
func (p *holder) done(t *testing.T, op, profile string) {
	t.Helper()
	r := p.call(t, p.arguments(t, op, profile)...)
	if r.code != 0 {
		t.Fatalf("card %s: exit %d\n%s%s", op, r.code, r.out, r.err)
	}
	if o := decodeOutcome(t, r.out); o.Result != "done" || o.Status != 0 || o.APDUs == 0 || o.Seconds == 0 {
		t.Errorf("card %s: %+v", op, o)
	}
}

// refused runs an operation that must not succeed.
func (p *holder) refused(t *testing.T, op, profile string) outcome {
	t.Helper()
	r := p.call(t, p.arguments(t, op, profile)...)
	o := decodeOutcome(t, r.out)
	if r.code != 1 || o.Result != "failed" || o.Error == "" {
		t.Fatalf("card %s: exit %d\n%s%s", op, r.code, r.out, r.err)
	}
	return o
}

// test has inkan itself use every key on the card.
func (p *holder) test(t *testing.T) {
	t.Helper()
	var used []struct {
		Label, Did string
		Trusted    bool
	}
	p.query(t, &used, "card", "test", "--reader", p.reader(), "--pin-file", p.secretFile(t, p.pin), "--trust", p.ca())
	if len(used) != 2 || !used[0].Trusted || !used[1].Trusted || !strings.HasPrefix(used[0].Did, "signed") {
		t.Errorf("card test: %+v", used)
	}
}
