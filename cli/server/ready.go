package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"
)

// readyPath is where a node says whether it can work.
const readyPath = "/readyz"

// readyTimeout is how long a node may take to say how it is.
const readyTimeout = 5 * time.Second

func serveHealth(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, nil) }

// serveReady tells whether database, keys and authority answer, and on a node without
// keys which of the others do that have them. One of those is enough. In an array it
// tells how the node stands there too.
func (n *Node) serveReady(w http.ResponseWriter, r *http.Request) {
	status, body := http.StatusOK, map[string]string{}
	if n.remote != nil {
		for _, s := range n.remote.Check(r.Context()) {
			body["tks "+s.Name] = "ok"
			if !s.Reachable {
				body["tks "+s.Name] = fmt.Sprintf("not reachable since %s: %v", s.Since.UTC().Format(time.RFC3339), s.Err)
			}
		}
	}
	parts, stop := n.arrayReady(r.Context())
	maps.Copy(body, parts)
	if stop != nil {
		status, body["array"] = http.StatusServiceUnavailable, stop.Error()
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	checks := map[string]error{"database": n.DB.Ready(ctx), "authority": n.Authority.Ready(ctx)}
	_, checks["keys"] = n.keys.Random(ctx, 8)
	for name, err := range checks {
		body[name] = "ok"
		if err != nil {
			body[name] = err.Error()
			status = http.StatusServiceUnavailable
		}
	}
	if n.sealing != nil {
		body["sealing"] = n.sealing.Health(ctx)
	}
	answer(w, status, body)
}

// State is how a running node is.
type State struct {
	Ready bool
	Parts map[string]string // what it depends on: ok, or what is wrong with it
}

// Running asks the node that has the folder open how it is. It returns nil where no
// node runs.
func Running(ctx context.Context, folder string) (*State, error) {
	a, err := reachSocket(ctx, folder)
	if a == nil {
		return nil, err
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*readyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+readyPath, nil)
	if err != nil {
		return nil, err
	}
	res, err := a.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the running node how it is: %w", err)
	}
	defer res.Body.Close()
	s := State{Ready: res.StatusCode == http.StatusOK}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&s.Parts); err != nil {
		return nil, fmt.Errorf("asking the running node how it is: HTTP status %d: %w", res.StatusCode, err)
	}
	return &s, nil
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
