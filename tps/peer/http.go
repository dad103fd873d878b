package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
)

// callTime bounds one call between nodes for the array's own purposes.
const callTime = dialTime + dialTime

func callWith(ctx context.Context, c *http.Client, m Member, method, path string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		b, err := canonical(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, m.URL()+path, body)
	if err != nil {
		return 0, err
	}
	// All of these calls may be made twice, so one that finds a kept connection closed
	// is made again. An empty list is not sent (net/http.Transport).
	req.Header["Idempotency-Key"] = []string{}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return res.StatusCode, problemOf(res)
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
		return res.StatusCode, err
	}
	if err := readStrict(res.Body, maxState, out); err != nil {
		return res.StatusCode, fmt.Errorf("reading the answer of %s: %w", m.Name, err)
	}
	return res.StatusCode, nil
}

// endpoints are the array's own addresses.
func (n *Node) endpoints() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /array/v1/hello", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /array/v1/status", func(w http.ResponseWriter, r *http.Request) { n.answer(w, n.report(r.Context())) })
	mux.HandleFunc("GET /array/v1/state", n.getState)
	mux.HandleFunc("PUT /array/v1/state", n.putState)
	mux.HandleFunc("POST /array/v1/renew", n.postRenew)
	mux.HandleFunc("POST /array/v1/drain", n.postDrain)
	mux.HandleFunc("POST /array/v1/offer", n.postOffer)
	mux.Handle("/array/", http.NotFoundHandler())
	return mux
}

func (n *Node) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		n.cfg.Log.Warn("answer to a peer was cut", slog.Any("err", err))
	}
}

// fail answers with an error; what the caller may not know stands in the log.
func (n *Node) fail(w http.ResponseWriter, r *http.Request, err error) {
	n.cfg.Log.Warn("call of a peer failed", slog.String("path", r.URL.Path), slog.Any("err", err))
	problem(w, 0, err)
}

// fromPrimary says whether the primary is calling.
func (n *Node) fromPrimary(r *http.Request) error {
	c, err := n.Caller(r)
	if err != nil {
		return err
	}
	if c.Node != n.view.Load().rec.State.Primary {
		return fmt.Errorf("%w: %s is not the primary", ErrRole, c.Name)
	}
	return nil
}

// getState gives the state to whoever has an older one.
func (n *Node) getState(w http.ResponseWriter, r *http.Request) {
	have, err := strconv.ParseUint(r.URL.Query().Get("epoch"), 10, 64)
	if err != nil {
		n.fail(w, r, fmt.Errorf("%w: epoch", ErrRequest))
		return
	}
	v := n.view.Load()
	switch epoch := v.rec.State.Epoch; {
	case have == epoch:
		w.WriteHeader(http.StatusNoContent)
	case have > epoch:
		n.fail(w, r, fmt.Errorf("%w: epoch %d", ErrBehind, epoch))
	default:
		n.answer(w, envelope{v.rec.State, v.rec.Documents})
	}
}

// putState takes a newer state.
func (n *Node) putState(w http.ResponseWriter, r *http.Request) {
	var e envelope
	if err := readStrict(r.Body, maxState, &e); err != nil {
		n.fail(w, r, fmt.Errorf("%w: %w", ErrRequest, err))
		return
	}
	c, err := n.Caller(r)
	if err != nil {
		n.fail(w, r, err)
		return
	}
	if err := n.accept(c.Node, e); err != nil {
		n.fail(w, r, err)
		return
	}
	n.answer(w, n.report(r.Context()))
}
