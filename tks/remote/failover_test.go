package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/remote"
	"inkan/tks/remote/remotetest"
)

// farm is nodes that serve stubs, some of which are made to fail.
type farm struct {
	nodes []remote.Node
	stubs []*stub
	fails []func(*http.Request) (*http.Response, error) // nil: the node is well
}

func newFarm(t *testing.T, n int) *farm {
	f := &farm{fails: make([]func(*http.Request) (*http.Response, error), n)}
	for i := range n {
		s := &stub{}
		node := direct(fmt.Sprintf("tks%d", i+1), newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())}))
		well := node.Client.Transport.(inProcess)
		node.Client.Transport = inProcess(func(r *http.Request) (*http.Response, error) {
			if fail := f.fails[i]; fail != nil {
				return fail(r)
			}
			return well(r)
		})
		f.nodes, f.stubs = append(f.nodes, node), append(f.stubs, s)
	}
	return f
}

func (f *farm) calls() []int {
	out := make([]int, len(f.stubs))
	for i, s := range f.stubs {
		out[i] = s.calls()
	}
	return out
}

// favorite is the node that a first call goes to.
func (f *farm) favorite(t *testing.T, c *remote.Client) int {
	t.Helper()
	before := f.calls()
	_, err := c.Random(t.Context(), 8)
	must(t, err)
	return slices.IndexFunc(f.stubs, func(s *stub) bool { return s.calls() > before[slices.Index(f.stubs, s)] })
}

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func refuses(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// says is a node behind which something else answers.
func says(status int, media, body string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}}, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// dies is a node whose answer ends in the middle.
func dies(*http.Request) (*http.Response, error) {
	body := io.MultiReader(strings.NewReader(`{"data":"00`), failing{})
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body)}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestFailover: whatever keeps the favorite from answering, the next node does, the
// client stays there, and knows why.
func TestFailover(t *testing.T) {
	for name, fail := range map[string]func(*http.Request) (*http.Response, error){
		"hangs": hangs, "refuses": refuses, "dies": dies, "502": says(502, "text/html", "<html>"), "503": says(503, "text/plain", ""),
		"not a key service": says(404, "text/plain", "404 page not found"), "cut json": says(200, "application/json", `{"data":"0011`),
		"few bytes": says(200, "application/json", `{"data":"00"}`), "unknown field": says(200, "application/json", `{"data":"0000000000000000","more":1}`),
		"too long": says(200, "application/json", `{"data":"`+strings.Repeat("00", 40000)+`"}`), "redirect": says(307, "text/plain", ""),
		"HSM away":        says(503, "application/problem+json", `{"status":503,"detail":"HSM not available","error":"ErrUnavailable"}`),
		"unknown problem": says(500, "application/problem+json", `{`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(t, 3)
				c := newClient(t, remote.Config{CallTimeout: 5 * time.Second, Rest: 7 * time.Second}, f.nodes...)
				first := f.favorite(t, c)
				f.fails[first] = fail
				start := time.Now()
				second := f.favorite(t, c)
				if second == first || second < 0 {
					t.Fatalf("answered by node %d", second)
				}
				if waited := time.Since(start); waited > 5*time.Second {
					t.Errorf("waited %v", waited)
				}
				st := c.Status()[first]
				if st.Reachable || st.Err == nil || !st.Since.Equal(time.Now()) || st.Name != f.nodes[first].Name {
					t.Errorf("status %+v", st)
				}
				f.fails[first] = nil
				time.Sleep(time.Hour)
				for range 5 {
					if now := f.favorite(t, c); now != second {
						t.Errorf("went on to node %d without need", now)
					}
				}
				f.fails[second] = fail
				c.Random(t.Context(), 8)
				if s := c.Check(t.Context()); !s[first].Reachable || s[second].Reachable {
					t.Errorf("checked %+v", s)
				}
			})
		})
	}
}

// TestAnswersCount: what a node says is not asked elsewhere, and comes over as the
// error that it is.
func TestAnswersCount(t *testing.T) {
	t.Parallel()
	for _, want := range []error{tks.ErrCryptogram, tks.ErrDenied, tks.ErrUnknownKeyVersion, apdu.ErrUnsupported, errors.New("something else")} {
		f := newFarm(t, 2)
		for _, s := range f.stubs {
			s.answers(fmt.Errorf("deriving session keys: card of nobody: %w", want))
		}
		c := newClient(t, remote.Config{}, f.nodes...)
		_, err := c.DeriveSession(t.Context(), tks.SessionRequest{})
		var answer *remote.Error
		if !errors.As(err, &answer) || !strings.Contains(err.Error(), "card of nobody") || !strings.Contains(err.Error(), answer.Node) {
			t.Errorf("%v: came over as %v", want, err)
		}
		if answer != nil && answer.Name != "" && !errors.Is(err, want) {
			t.Errorf("%v: came over as %v", want, err)
		}
		if calls := f.calls(); calls[0]+calls[1] != 1 {
			t.Errorf("%v: asked %v times", want, calls)
		}
		for _, s := range c.Status() {
			if !s.Reachable {
				t.Errorf("%v: %s counts as gone", want, s.Name)
			}
		}
	}
}

// TestAllGone: each node is asked once, the error says what is wrong with each, and
// the one that comes back is found.
func TestAllGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, 3)
		c := newClient(t, remote.Config{CallTimeout: 5 * time.Second}, f.nodes...)
		for i := range f.fails {
			f.fails[i] = hangs
		}
		start := time.Now()
		_, err := c.Random(t.Context(), 8)
		if !errors.Is(err, tks.ErrUnavailable) || time.Since(start) != 15*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		for _, n := range f.nodes {
			if !strings.Contains(err.Error(), n.Name) {
				t.Errorf("%v does not name %s", err, n.Name)
			}
		}
		f.fails[1] = nil
		if now := f.favorite(t, c); now != 1 {
			t.Errorf("answered by node %d", now)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f.fails[1] = hangs
		if _, err := c.Random(ctx, 8); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, tks.ErrUnavailable) {
			t.Errorf("the caller's own deadline: %v", err)
		}
		if s := c.Status()[1]; !s.Reachable {
			t.Error("the caller's haste counts as the node's failure")
		}
	})
}

// TestMembers: nodes come and go, and clients do not all begin at the same one.
func TestMembers(t *testing.T) {
	t.Parallel()
	f := newFarm(t, 2)
	var now []remote.Node
	c := newClient(t, remote.Config{Nodes: func() []remote.Node { return now }})
	if _, err := c.Random(t.Context(), 8); !errors.Is(err, tks.ErrUnavailable) || !strings.Contains(err.Error(), "no node with the role tks") {
		t.Errorf("without nodes: %v", err)
	}
	now = f.nodes[:1]
	if at := f.favorite(t, c); at != 0 {
		t.Errorf("answered by node %d", at)
	}
	f.fails[0] = refuses
	if _, err := c.Random(t.Context(), 8); !errors.Is(err, tks.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	now = f.nodes[1:]
	if at := f.favorite(t, c); at != 1 || len(c.Status()) != 1 {
		t.Errorf("answered by node %d, status %+v", at, c.Status())
	}
	f.fails[0] = nil
	now = f.nodes
	if s := c.Status(); !s[0].Reachable {
		t.Errorf("a member that came back counts as gone: %+v", s)
	}
	firsts := map[int]bool{}
	for range 200 {
		firsts[f.favorite(t, newClient(t, remote.Config{}, f.nodes...))] = true
	}
	if len(firsts) != 2 {
		t.Errorf("every client began at %v", firsts)
	}
}

// TestCutConnection: over the network a node dies in the middle of its answer, or is
// not there at all; and a connection that it had closed in between is no failure.
func TestCutConnection(t *testing.T) {
	t.Parallel()
	a := remotetest.NewArray(t)
	well := &stub{}
	first := a.Serve("tks1", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		buf.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"enc\":\"00")
		buf.Flush()
	}))
	second := a.Serve("tks2", newHandler(t, remote.HandlerConfig{Service: well}))
	http1 := a.Client("tps1")
	nodes := []remote.Node{{Name: "tks1", URL: first.URL, Client: http1}, {Name: "tks2", URL: second.URL, Client: http1}}
	for range 10 { // whichever is asked first
		_, err := newClient(t, remote.Config{}, nodes...).DeriveSession(t.Context(), tks.SessionRequest{})
		must(t, err)
	}
	first.Close()
	for range 10 {
		_, err := newClient(t, remote.Config{}, nodes...).DeriveSession(t.Context(), tks.SessionRequest{})
		must(t, err)
	}
	c := newClient(t, remote.Config{}, nodes[1])
	for range 5 {
		second.CloseClientConnections()
		if _, err := c.Random(t.Context(), 8); err != nil {
			t.Error(err)
		}
	}
}

// TestStrangers: who has no certificate of the array gets nothing, and no client
// speaks to a server without one.
func TestStrangers(t *testing.T) {
	t.Parallel()
	a, b := remotetest.NewArray(t), remotetest.NewArray(t)
	s := &stub{}
	server := a.Serve("tks1", newHandler(t, remote.HandlerConfig{Service: s}))
	for name, client := range map[string]*http.Client{"another array's member": b.Client("tps1"), "nobody": server.Client()} {
		c := newClient(t, remote.Config{}, remote.Node{Name: "tks1", URL: server.URL, Client: client})
		if _, err := c.Random(t.Context(), 8); !errors.Is(err, tks.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.calls() != 0 {
		t.Error("the service was asked")
	}
}

// TestWiped: what a client sent is overwritten when the call is over, also in the
// copy that a transport keeps.
func TestWiped(t *testing.T) {
	t.Parallel()
	var kept io.ReadCloser
	s := &stub{}
	node := direct("tks1", newHandler(t, remote.HandlerConfig{Service: s, Identify: always("tps1", everything())}))
	well := node.Client.Transport
	node.Client.Transport = keeping{well, &kept}
	data := secret.New([]byte("0123456789abcdef"))
	_, err := newClient(t, remote.Config{}, node).Encrypt(t.Context(), tks.EncryptRequest{Data: data})
	must(t, err)
	if string(s.data) != "0123456789abcdef" || string(data.Bytes()) != "0123456789abcdef" {
		t.Error("the data did not come over, or the caller's was touched")
	}
	if b, err := io.ReadAll(kept); len(b) != 0 || err != nil {
		t.Errorf("%d bytes are left to read, %v", len(b), err)
	}
}

// keeping is a transport that remembers the body it sent.
type keeping struct {
	http.RoundTripper
	body *io.ReadCloser
}

// RoundTrip implements http.RoundTripper.
func (k keeping) RoundTrip(r *http.Request) (*http.Response, error) {
	*k.body = r.Body
	return k.RoundTripper.RoundTrip(r)
}
