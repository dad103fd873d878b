package peer_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/peer"
	"inkan/tps/wire"
)

// TestJoin: invite, join, a call over mutual TLS in the direction that roles allow.
func TestJoin(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	text, err := p.get(k, "/tks/v1/random")
	must(t, err)
	same(t, "answer", text, "tps1.example to tks1.example")
	_, err = k.get(p, "/tps/tps")
	refused(t, "a key service calls", err, peer.ErrRole)
	_, err = p.get(k, "/metrics")
	refused(t, "a path of no rule", err, peer.ErrRole)

	st := k.converged()
	same(t, "members", len(st.Members), 2)
	for _, m := range st.Members {
		same(t, m.Member.Name+" state", m.Member.State, peer.Active)
		same(t, m.Member.Name+" hash", m.Report.Hash, st.Hash)
		same(t, m.Member.Name+" version", m.Report.Version, "1.2.3")
		same(t, m.Member.Name+" facts", m.Report.Facts.SigningKID, "kid of "+m.Member.Name)
		same(t, m.Member.Name+" primary", m.Primary, m.Member.Name == "tps1.example")
	}
	same(t, "tks nodes", p.Members(peer.TKS)[0].Name, "tks1.example")
}

// TestJoinShows: what the operator sees before anything is sent.
func TestJoinShows(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	x := newBox(t, "tks1.example", peer.TKS)
	want := p.CAs()[0].Fingerprint
	var seen peer.Offer
	err := x.ask(p, peer.JoinOptions{Confirm: func(o peer.Offer) (bool, error) { seen = o; return false, nil }})
	refused(t, "rejected", err, peer.ErrFingerprint)
	same(t, "fingerprint", seen.Fingerprint, want)
	same(t, "words", seen.Words, p.CAs()[0].Words)
	same(t, "number of words", len(strings.Fields(seen.Words)), 8)
	same(t, "primary", seen.Primary, "tps1.example")
	same(t, "members", seen.Members, 1)
	same(t, "name", seen.Name, "site")

	wrong := wire.Fingerprint{1}
	code, err := p.Invite("tks1.example", []peer.Role{peer.TKS}, 0)
	must(t, err)
	err = x.Join(t.Context(), peer.JoinOptions{Primary: p.cfg.Address, Code: code, Fingerprint: wrong})
	refused(t, "wrong fingerprint", err, peer.ErrFingerprint)
	for _, f := range []wire.Fingerprint{want, wrong} {
		if !strings.Contains(err.Error(), f.String()) {
			t.Errorf("%v does not name %v", err, f)
		}
	}
	refused(t, "nobody to ask", x.Join(t.Context(), peer.JoinOptions{Primary: p.cfg.Address, Code: code}), peer.ErrFingerprint)
	if _, ok := x.State(); ok {
		t.Error("it is in an array")
	}
	// Nothing was used up.
	must(t, x.Join(t.Context(), peer.JoinOptions{Primary: p.cfg.Address, Code: code, Fingerprint: want}))
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	tks := []peer.Role{peer.TKS}
	used, err := p.Invite("tks1.example", tks, 0)
	must(t, err)
	f := p.CAs()[0].Fingerprint
	k := newBox(t, "tks1.example", peer.TKS)
	must(t, k.Join(t.Context(), peer.JoinOptions{Primary: p.cfg.Address, Code: used, Fingerprint: f}))
	k.run()
	p.converged()
	for name, c := range map[string]struct {
		name   string // of the node
		for_   string // of the invite
		roles  []peer.Role
		set    func(b *box)
		at     *box
		status int
		want   error
	}{
		"used invite":       {name: "tks1.example", status: 403, want: peer.ErrInvite},
		"wrong name":        {name: "tks2.example", for_: "tks3.example", status: 403, want: peer.ErrInvite},
		"wrong roles":       {name: "tks2.example", for_: "tks2.example", roles: []peer.Role{peer.TPS}, status: 403, want: peer.ErrInvite},
		"other version":     {name: "tks2.example", for_: "tks2.example", set: func(b *box) { b.cfg.Version = "1.3.0" }, status: 412, want: peer.ErrVersion},
		"same minor":        {name: "tks2.example", for_: "tks1.example", set: func(b *box) { b.cfg.Version = "1.2.9" }, status: 403, want: peer.ErrInvite},
		"slow clock":        {name: "tks2.example", for_: "tks2.example", set: func(b *box) { b.clock.forward(-31 * time.Second) }, status: 412, want: peer.ErrClock},
		"fast clock":        {name: "tks2.example", for_: "tks2.example", set: func(b *box) { b.clock.forward(time.Hour) }, status: 412, want: peer.ErrClock},
		"name is active":    {name: "tks1.example", for_: "tks1.example", status: 409, want: peer.ErrNameTaken},
		"not the primary":   {name: "tks2.example", for_: "tks2.example", at: k, status: 421, want: peer.ErrNotPrimary},
		"name of a primary": {name: "tps1.example", for_: "tps1.example", status: 409, want: peer.ErrNameTaken},
	} {
		t.Run(name, func(t *testing.T) {
			code := used
			if c.for_ != "" {
				if c.roles == nil {
					c.roles = tks
				}
				code, err = p.Invite(c.for_, c.roles, 0)
				must(t, err)
			}
			x := newBox(t, c.name, peer.TKS)
			if c.set != nil {
				c.set(x)
				x.open()
			}
			if c.at == nil {
				c.at = p
			}
			err := x.Join(t.Context(), peer.JoinOptions{Primary: c.at.cfg.Address, Code: code, Fingerprint: f})
			refused(t, "join", err, c.want)
			var e *peer.RemoteError
			if !errors.As(err, &e) || e.Status != c.status {
				t.Errorf("%v, want status %d", err, c.status)
			}
			if _, ok := x.State(); ok {
				t.Error("it is in an array")
			}
		})
	}
	same(t, "members", len(p.converged().Members), 2)
}

func TestInvite(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	code, err := p.Invite("tks1.example", []peer.Role{peer.TKS}, time.Hour)
	must(t, err)
	same(t, "length of a code", code.Len(), 26+5)
	p.restart() // it survives
	x := newBox(t, "tks1.example", peer.TKS)
	x.clock = p.clock
	p.clock.forward(61 * time.Minute)
	o := peer.JoinOptions{Primary: p.cfg.Address, Code: code, Fingerprint: p.CAs()[0].Fingerprint}
	refused(t, "expired", x.Join(t.Context(), o), peer.ErrInvite)
	p.clock.forward(-2 * time.Minute)
	lower := secret.New([]byte(strings.ToLower(strings.ReplaceAll(string(code.Bytes()), "-", " "))))
	o.Code = secret.New([]byte("AAAAA-AAAAA"))
	refused(t, "malformed", x.Join(t.Context(), o), peer.ErrInvite)
	o.Code = secret.New([]byte("AAAAA-AAAAA-AAAAA-AAAAA-AAAAA-A"))
	refused(t, "unknown", x.Join(t.Context(), o), peer.ErrInvite)
	o.Code = lower
	must(t, x.Join(t.Context(), o))

	_, err = x.Invite("tks2.example", []peer.Role{peer.TKS}, 0)
	refused(t, "invite of a member", err, peer.ErrNotPrimary)
	_, err = p.Invite("tks2.elsewhere", []peer.Role{peer.TKS}, 0)
	refused(t, "other domain", err, peer.ErrDomain)
	for _, name := range []string{"", "127.0.0.1", "TKS.example", "a b.example", ".example"} {
		if _, err := p.Invite(name, []peer.Role{peer.TKS}, 0); err == nil {
			t.Errorf("name %q", name)
		}
	}
	if _, err := p.Invite("tks2.example", []peer.Role{peer.TKS}, 8*24*time.Hour); err == nil {
		t.Error("an invite for ever")
	}
	if _, err := p.Invite("tks2.example", nil, 0); err == nil {
		t.Error("no roles")
	}
}

// TestJoinOneByOne: while a node is joining no other may, and one that never reports is
// forgotten; a cut join goes on with the same invite.
func TestJoinOneByOne(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	x := newBox(t, "tks1.example", peer.TKS)
	x.clock = p.clock
	must(t, x.ask(p, peer.JoinOptions{})) // it does not run
	y := newBox(t, "tks2.example", peer.TKS)
	y.clock = p.clock
	err := y.ask(p, peer.JoinOptions{})
	refused(t, "second join", err, peer.ErrBusy)
	var e *peer.RemoteError
	if !errors.As(err, &e) || e.Status != 409 || !strings.Contains(e.Detail, "tks1.example is joining") {
		t.Errorf("%v", err)
	}
	p.clock.forward(11 * time.Minute)
	until(t, func() bool { _, err := p.member(x); return err != nil }, func() string { return "the silent node is still there" })
	must(t, y.ask(p, peer.JoinOptions{}))
	y.run()
	p.converged()
}

func TestReplace(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	k := p.join("tks1.example", peer.TKS)
	old, err := p.member(k)
	must(t, err)
	k.halt() // the machine is gone
	x := newBox(t, "tks1.example", peer.TKS)
	must(t, x.ask(p, peer.JoinOptions{Replace: true}))
	x.run()
	p.converged()
	m, err := p.member(x)
	must(t, err)
	if m.Node == old.Node {
		t.Error("the new node has the old id")
	}
	k.run() // and comes back
	_, err = k.get(p, "/array/v1/status")
	refused(t, "the replaced node", err, peer.ErrNotAccepted)
	s, _ := p.State()
	same(t, "revoked", len(s.Revoked), 1)
	same(t, "serial", s.Revoked[0].Serial, old.Certificates[0].Serial)
	refused(t, "a member joins", x.ask(p, peer.JoinOptions{}), peer.ErrInside)
}

// TestDoorIsNarrow: on inkan-join nothing is served but the join.
func TestDoorIsNarrow(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	for name, send := range map[string]string{
		"http":       "GET /array/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
		"huge":       "\x7F\xFF\xFF\xFF",
		"no json":    "\x00\x00\x00\x04nope",
		"no request": "\x00\x00\x00\x02{}",
	} {
		c := dialJoin(t, p)
		_, err := c.Write([]byte(send))
		must(t, err)
		if text := readAll(c); strings.Contains(text, "HTTP/") || strings.Contains(text, `"epoch"`) || strings.Contains(text, `"node":"0`) {
			t.Errorf("%s: %q", name, text)
		}
	}
	raw, err := net.Dial("tcp", p.cfg.Address)
	must(t, err)
	raw.Close()
	p.converged()
}

// TestDoorIsLimited: who only holds the door open gets no more than his share.
func TestDoorIsLimited(t *testing.T) {
	t.Parallel()
	p := primaryBox(t, "tps1.example", peer.TPS)
	for i := 1; ; i++ {
		c := dialJoin(t, p)
		head := make([]byte, 12)
		_, err := io.ReadFull(c, head) // length, and how the message begins
		must(t, err)
		if text := string(head[4:]); text == `{"refusa` {
			same(t, "connections before the first refusal", i, 17)
			break
		} else if text != `{"array"` || i > 100 {
			t.Fatalf("%d: %s", i, text)
		}
	}
	p.converged() // members are not held up
}

func TestWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for b := range 256 {
		w := strings.Fields(peer.Words(wire.Fingerprint{byte(b)}))
		same(t, "words", len(w), 8)
		seen[w[0]] = true
	}
	same(t, "different words", len(seen), 256)
	same(t, "words of a fingerprint", peer.Words(wire.Fingerprint{0, 1, 2, 3, 252, 253, 254, 255}), "acorn actor adult agent wizard yellow zebra zipper")
}
