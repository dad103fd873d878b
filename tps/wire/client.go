package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// Client says where a server is and whom to trust. It is safe for concurrent use.
type Client struct {
	// BaseURL is https://host[:port]; the protocol's path is added unless it has
	// one of its own.
	BaseURL string
	// TLS holds the trust, see [SystemTrust], [FileTrust] and [CertificateTrust];
	// nil trusts the system's roots. One that skips verification is refused.
	TLS *tls.Config
	// Timeout is how long the server may take for its next message; 0 = 2 min.
	Timeout time.Duration
}

// Path is where our server and Dogtag's serve the protocol.
const Path = "/tps/tps"

// farewell is how long a finished or abandoned conversation is given to end in
// order: the server writes its records and frees the card before END_OP.
const farewell = 5 * time.Second

func (c *Client) endpoint() (string, error) {
	u, err := url.Parse(c.BaseURL)
	if err != nil {
		return "", fmt.Errorf("parsing the server's address: %w", err)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the server's address must be https://host[:port]")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = Path
	}
	return u.String(), nil
}

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 2 * time.Minute
}

// transport speaks HTTP/1.1 only, on a connection of its own: a request is
// never repeated and nothing is pooled. It calls lost when the connection ends;
// by itself net/http waits for the request body before it reports that.
func (c *Client) transport(lost func()) (*http.Transport, error) {
	cfg := c.TLS
	if cfg == nil {
		cfg = SystemTrust()
	}
	if cfg.InsecureSkipVerify {
		return nil, errors.New("a TLS configuration that does not verify the server is refused")
	}
	cfg = cfg.Clone()
	cfg.NextProtos = nil
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	const limit = 15 * time.Second
	dialer := &net.Dialer{Timeout: limit}
	watch := func(conn net.Conn, err error) (net.Conn, error) {
		if err != nil {
			return nil, err
		}
		return &watchedConn{conn, lost}, nil
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// Straight to the server; the other one is for proxies.
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return watch((&tls.Dialer{NetDialer: dialer, Config: cfg}).DialContext(ctx, network, addr))
		},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return watch(dialer.DialContext(ctx, network, addr))
		},
		TLSHandshakeTimeout: limit,
		TLSClientConfig:     cfg,
		DisableKeepAlives:   true,
		DisableCompression:  true,
		Protocols:           protocols,
	}, nil
}

// watchedConn tells when nothing more can be read.
type watchedConn struct {
	net.Conn
	lost func()
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.lost()
	}
	return n, err
}

// link is one open exchange: messages out through a pipe, one write and so one
// chunk each; messages in through an inbox.
type link struct {
	out     *io.PipeWriter
	inbox   *inbox
	close   context.CancelFunc
	sent    <-chan struct{} // closed when the request body is written to its end, terminal chunk and all
	timeout time.Duration
}

// dial opens the exchange with BEGIN_OP and waits for the response head.
func (c *Client) dial(ctx context.Context, begin BeginOp) (*link, error) {
	endpoint, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	in, out := io.Pipe()
	tr, err := c.transport(func() { in.CloseWithError(errors.New("the server closed the connection")) })
	if err != nil {
		return nil, err
	}
	frame, err := Encode(begin)
	if err != nil {
		return nil, err
	}
	// The exchange outlives ctx by a farewell, but not before it is open.
	reqCtx, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { abort(cancelled(ctx)) })()
	defer time.AfterFunc(c.timeout(), func() { abort(fmt.Errorf("no answer within %v", c.timeout())) }).Stop()

	sent := make(chan struct{})
	once := sync.OnceFunc(func() { close(sent) })
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { once() }}
	context.AfterFunc(reqCtx, func() { in.CloseWithError(context.Cause(reqCtx)) })
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(reqCtx, trace), http.MethodPost, endpoint, in)
	if err != nil {
		abort(nil)
		return nil, fmt.Errorf("preparing the request: %w", err)
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("User-Agent", "inkan")
	go out.Write(frame) // an error shows in the answer
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(reqCtx); cause != nil {
			err = cause
		}
		abort(nil)
		in.Close()
		return nil, fmt.Errorf("connecting to %s: %w", req.URL.Host, err)
	}
	l := &link{out: out, inbox: newInbox(), sent: sent, timeout: c.timeout(),
		close: func() { abort(nil); resp.Body.Close(); in.Close() }}
	if resp.StatusCode != http.StatusOK {
		l.close()
		return nil, fmt.Errorf("the server at %s answered %q: is it a token server?", req.URL.Host, resp.Status)
	}
	limit := MaxMessage
	if begin.batchSize() > 0 || begin.Extensions.IsTrue(ExtDryRun) {
		limit = MaxBatchMessage
	}
	go l.inbox.run(NewReader(resp.Body, limit), func(error) {})
	return l, nil
}

// send writes one message as one chunk.
func (l *link) send(m Message) error {
	frame, err := Encode(m)
	if err != nil {
		return err
	}
	defer clear(frame)
	defer time.AfterFunc(l.timeout, l.close).Stop()
	if _, err := l.out.Write(frame); err != nil {
		return fmt.Errorf("connection lost: %w", err)
	}
	return nil
}

// receive waits for the server's next message.
func (l *link) receive(ctx context.Context) (Message, error) {
	timer := time.NewTimer(l.timeout)
	defer timer.Stop()
	select {
	case m := <-l.inbox.messages:
		return m, nil
	case <-l.inbox.done:
		return l.inbox.poll()
	case <-timer.C:
		return nil, fmt.Errorf("no message from the server within %v", l.timeout)
	case <-ctx.Done():
		return nil, cancelled(ctx)
	}
}

// finish ends the request body with the terminal chunk. An abandoned
// conversation is followed to its END_OP, so that the server has let go of the
// card when the caller goes on. It then closes the connection.
func (l *link) finish(ended bool) {
	l.out.Close()
	limit := time.After(min(farewell, l.timeout))
	for !ended {
		select {
		case m := <-l.inbox.messages:
			ended = m.Type() == TypeEndOp
		case <-l.inbox.done:
			m, _ := l.inbox.poll()
			ended = m == nil || m.Type() == TypeEndOp
		case <-limit:
			ended = true
		}
	}
	select {
	case <-l.sent:
	case <-l.inbox.done:
		// END_OP came with the stream's end; give the terminal chunk its chance.
		select {
		case <-l.sent:
		case <-time.After(100 * time.Millisecond):
		}
	case <-limit:
	}
	l.close()
	<-l.inbox.done
}
