package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"inkan/tks"
)

// Config is what a Client is made of. Nodes is required.
type Config struct {
	// Nodes lists the nodes that serve the key service now. It is asked for each
	// call, so that members may come and go.
	Nodes func() []Node
	// CallTimeout is the longest wait for one node; 0: 5 s. A card in a reader waits
	// for the whole call, so for this times the number of nodes at worst.
	CallTimeout time.Duration
	// Rest is how long a node that did not answer is not asked before the others;
	// 0: 5 s.
	Rest time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Log is told of nodes that go and come; nil: discarded.
	Log *slog.Logger
}

// Client is the key service of other nodes. It implements tks.Service.
type Client struct{ pool *pool }

var _ tks.Service = (*Client)(nil)

// New makes a client. It connects to nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Nodes == nil {
		return nil, errors.New("making a client of the key service: nobody lists its nodes")
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 5 * time.Second
	}
	if cfg.Rest == 0 {
		cfg.Rest = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{newPool(cfg)}, nil
}

// Status is what the client knows about each node, in their order. It asks nobody:
// see [Client.Check].
func (c *Client) Status() []NodeStatus { return c.pool.status() }

// Random implements tks.Service.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > 1024 {
		return nil, fmt.Errorf("drawing %d random bytes: want 1 to 1024", n)
	}
	body, err := encode(randomRequest{n})
	if err != nil {
		return nil, err
	}
	r, err := ask(ctx, c.pool, string(MethodRandom), body, how{}, func(r randomReply) error { return wants(n, r.Data.Len()) })
	if err != nil {
		return nil, fmt.Errorf("drawing random bytes: %w", err)
	}
	return r.Data.Bytes(), nil
}

// DeriveSession implements tks.Service.
func (c *Client) DeriveSession(ctx context.Context, req tks.SessionRequest) (tks.SessionReply, error) {
	body, err := encode(proofOf(req.CardProof))
	if err != nil {
		return tks.SessionReply{}, err
	}
	r, err := ask(ctx, c.pool, string(MethodSession), body, how{}, sessionReply.check)
	if err != nil {
		return tks.SessionReply{}, fmt.Errorf("asking for session keys: %w", err)
	}
	return tks.SessionReply{ENC: r.ENC.Secret, MAC: r.MAC.Secret, RMAC: r.RMAC.Secret}, nil
}

// WrapKeySet implements tks.Service.
func (c *Client) WrapKeySet(ctx context.Context, req tks.KeySetRequest) (tks.KeySetReply, error) {
	body, err := encode(keySetRequest{proofOf(req.CardProof), req.NewKeySet, req.NewKeyVersion})
	if err != nil {
		return tks.KeySetReply{}, err
	}
	r, err := ask(ctx, c.pool, string(MethodKeySet), body, how{}, keySetReply.check)
	if err != nil {
		return tks.KeySetReply{}, fmt.Errorf("asking for a key set: %w", err)
	}
	return tks.KeySetReply{Data: r.Data, KCVs: r.kcvs()}, nil
}

// Encrypt implements tks.Service. The data stays the caller's to wipe.
func (c *Client) Encrypt(ctx context.Context, req tks.EncryptRequest) (tks.EncryptReply, error) {
	body, err := encode(proofOf(req.CardProof), part{"data", req.Data})
	if err != nil {
		return tks.EncryptReply{}, err
	}
	n := req.Data.Len()
	r, err := ask(ctx, c.pool, string(MethodEncrypt), body, how{}, func(r encryptReply) error { return wants(n, len(r.Data)) })
	if err != nil {
		return tks.EncryptReply{}, fmt.Errorf("asking to encrypt for the card: %w", err)
	}
	return tks.EncryptReply{Data: r.Data}, nil
}

// CardSecret implements tks.Service.
func (c *Client) CardSecret(ctx context.Context, req tks.SecretRequest) (tks.SecretReply, error) {
	body, err := encode(secretRequest{req.KeySet, req.KeyVersion, req.CUID, req.Use, hexByte(req.Algorithm)})
	if err != nil {
		return tks.SecretReply{}, err
	}
	r, err := ask(ctx, c.pool, string(MethodSecret), body, how{}, secretReply.check)
	if err != nil {
		return tks.SecretReply{}, fmt.Errorf("asking for a secret of the card: %w", err)
	}
	return tks.SecretReply{Secret: r.Secret.Secret}, nil
}

func wants(want, got int) error {
	if got != want {
		return fmt.Errorf("%d bytes, want %d", got, want)
	}
	return nil
}

// wiper is an answer whose secrets can be overwritten.
type wiper interface{ wipe() }

// ask sends body to one node after the other until one answers, and wipes it. An
// answer that does not decode, or that check refuses, is that of a broken node.
func ask[T wiper](ctx context.Context, p *pool, path string, body []byte, h how, check func(T) error) (out T, err error) {
	defer clear(body)
	err = p.each(ctx, h, func(ctx context.Context, n Node) error {
		var got T
		err := post(ctx, n, path, body, h, func(b []byte) error {
			if err := decode(b, &got); err != nil {
				return err
			}
			return check(got)
		})
		if err != nil {
			got.wipe()
			return err
		}
		out = got
		return nil
	})
	return out, err
}

// post makes one call at one node. take reads the answer, which is wiped afterwards.
func post(ctx context.Context, n Node, path string, body []byte, h how, take func([]byte) error) error {
	if h.once {
		n.Client.CloseIdleConnections() // see send
	}
	res, reused, err := send(ctx, n, path, body)
	var gone *lost
	if errors.As(err, &gone) && reused && !h.once && ctx.Err() == nil {
		n.Client.CloseIdleConnections()
		res, _, err = send(ctx, n, path, body)
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	limit := maxBody
	if path == string(MethodKeys) || path == pathPage {
		limit = maxKeysBody
	}
	b, err := readAll(res.Body, limit)
	if err != nil {
		return &lost{n.Name, true, fmt.Errorf("reading the answer: %w", err)}
	}
	defer clear(b)
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.StatusCode == http.StatusOK && media == "application/json":
		if err := take(b); err != nil {
			return &lost{n.Name, true, fmt.Errorf("the answer is not one of a key service: %w", err)}
		}
		return nil
	case media == problemType:
		e, ok := readProblem(n.Name, b)
		if !ok || errors.Is(e, tks.ErrUnavailable) {
			return &lost{n.Name, true, refusal(e, res)}
		}
		return e
	}
	return &lost{n.Name, true, refusal(nil, res)}
}

// refusal is the cause of an answer that is for want of the node.
func refusal(e *Error, res *http.Response) error {
	if e != nil {
		return errors.New(e.Detail)
	}
	return fmt.Errorf("it answers HTTP status %d, which is not a key service's", res.StatusCode)
}

// send sends one request. A connection that was idle may have been closed at the other
// end: reused says that this is no failure of the node yet.
func send(ctx context.Context, n Node, path string, body []byte) (res *http.Response, reused bool, err error) {
	var got atomic.Pointer[httptrace.GotConnInfo]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { got.Store(&i) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL+Base+path, newSending(body))
	if err != nil {
		return nil, false, &lost{n.Name, false, err}
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	client := *n.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if res, err = client.Do(req); err != nil {
		conn := got.Load()
		return nil, conn != nil && conn.Reused, &lost{n.Name, conn != nil, cause(err)}
	}
	return res, false, nil
}

// cause is the error of a request without its address, which says nothing new.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// sending is a copy of a body that is overwritten when it is closed: a transport may
// read on after the answer is there.
type sending struct {
	mu sync.Mutex
	b  []byte
	at int
}

func newSending(body []byte) *sending { return &sending{b: bytes.Clone(body)} }

// Read implements io.Reader.
func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == len(s.b) {
		return 0, io.EOF
	}
	n := copy(p, s.b[s.at:])
	s.at += n
	return n, nil
}

// Close implements io.Closer.
func (s *sending) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.b)
	s.b, s.at = nil, 0
	return nil
}
