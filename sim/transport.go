package sim

import (
	"bytes"

	"inkan/apdu"
)

// insGetResponse fetches the rest of an answer (ISO 7816-4 §11.8.1).
const insGetResponse = 0xC0

// maxChained bounds a command in ISO chaining, in bytes.
const maxChained = 32 << 10

// transport carries answers of any length over short ones: GET RESPONSE, wrong
// Le, command chaining. All of it is volatile.
type transport struct {
	t0, steps bool // quirks
	exact     bool // the answer is cut at Le, however short

	rest    []byte // of an answer, for GET RESPONSE
	restSW  apdu.StatusWord
	awaited *awaited      // a command answered 6Cxx
	chain   *apdu.Command // parts of a chained command so far
}

// awaited is a command that was run and whose answer waits for the right Le.
type awaited struct {
	cmd  apdu.Command
	resp apdu.Response
}

// begin answers what needs no command to run, or gives the command to run.
func (t *transport) begin(cmd apdu.Command) (whole apdu.Command, early *apdu.Response) {
	if cmd.INS == insGetResponse && (cmd.CLA&0x70 == 0 || len(t.rest) > 0) {
		r := t.getResponse(cmd)
		return cmd, &r
	}
	t.rest = nil
	a := t.awaited
	t.awaited = nil
	if a != nil && sameBut(a.cmd, cmd) && cmd.Ne >= len(a.resp.Data) {
		r := a.resp
		return cmd, &r
	}
	return t.unchain(cmd)
}

// sameBut reports whether two commands differ in Le only.
func sameBut(a, b apdu.Command) bool {
	return a.CLA == b.CLA && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && bytes.Equal(a.Data, b.Data)
}

// unchain collects the parts of a command chained by CLA bit 10 (§5.3.3). The
// class B0 of CoolKey is proprietary and has no such bit.
func (t *transport) unchain(cmd apdu.Command) (apdu.Command, *apdu.Response) {
	head := t.chain
	t.chain = nil
	last := cmd.CLA&0x10 == 0
	if cmd.CLA&0x60 != 0 || last && head == nil {
		return cmd, nil
	}
	part := cmd
	part.CLA &^= 0x10
	if head != nil && head.CLA == part.CLA && head.INS == part.INS && head.P1 == part.P1 && head.P2 == part.P2 {
		part.Data = append(head.Data, part.Data...)
	}
	switch {
	case len(part.Data) > maxChained:
		return cmd, &apdu.Response{SW: apdu.SWWrongLength}
	case last:
		return part, nil
	}
	part.Data = bytes.Clone(part.Data)
	t.chain = &part
	return cmd, &apdu.Response{SW: apdu.SWSuccess}
}

func (t *transport) getResponse(cmd apdu.Command) apdu.Response {
	if len(t.rest) == 0 {
		return apdu.Response{SW: apdu.SWConditionsOfUse}
	}
	n := cmd.Ne
	if n == 0 {
		n = apdu.MaxShortNe
	}
	return t.part(n)
}

// part hands out the next n bytes of the pending answer.
func (t *transport) part(n int) apdu.Response {
	n = min(n, len(t.rest))
	r := apdu.Response{Data: t.rest[:n:n], SW: t.restSW}
	if t.rest = t.rest[n:]; len(t.rest) > 0 {
		r.SW = more(len(t.rest))
	}
	return r
}

// more is 61xx for n bytes.
func more(n int) apdu.StatusWord {
	if n >= apdu.MaxShortNe {
		return 0x6100
	}
	return 0x6100 | apdu.StatusWord(n)
}

// finish makes what leaves the card of a whole answer.
func (t *transport) finish(cmd apdu.Command, r apdu.Response) apdu.Response {
	n := len(r.Data)
	room := max(cmd.Ne, apdu.MaxShortNe)
	if t.exact && cmd.Ne > 0 {
		room = cmd.Ne
	}
	switch {
	case n == 0:
		return r
	case t.t0 && len(cmd.Data) > 0:
		return t.hold(r, 0)
	case t.t0 && !cmd.Secured() && cmd.Ne > 0 && cmd.Ne < n && n <= apdu.MaxShortNe:
		return t.correct(cmd, r)
	case t.steps && r.SW == apdu.SWSuccess:
		return t.hold(r, 0)
	case n > room:
		return t.hold(r, room)
	}
	return r
}

// hold gives the first bytes of an answer and keeps the rest.
func (t *transport) hold(r apdu.Response, first int) apdu.Response {
	t.rest, t.restSW = bytes.Clone(r.Data), r.SW
	return t.part(first)
}

// correct asks for the command again with the right Le. It is not run again.
func (t *transport) correct(cmd apdu.Command, r apdu.Response) apdu.Response {
	cmd.Data = bytes.Clone(cmd.Data)
	t.awaited = &awaited{cmd: cmd, resp: r}
	return apdu.Response{SW: 0x6C00 | apdu.StatusWord(byte(len(r.Data)))}
}
