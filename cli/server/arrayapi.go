package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/peer"
)

// ArrayPath is where the array is managed: for local administrators only.
const ArrayPath = "/array"

// arrayCall is a request of a local administrator.
type arrayCall struct {
	*http.Request
	who string
}

// arrayHandler serves [ArrayPath] to a local administrator.
func (n *Node) arrayHandler(who string) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, event string, do func(arrayCall) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+api.Base+ArrayPath+path, func(w http.ResponseWriter, r *http.Request) {
			out, err := n.audited(arrayCall{r, who}, event, do)
			if err != nil {
				arrayProblem(w, err, event != "")
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if s, ok := out.(codeAnswer); ok {
				s.write(w)
				return
			}
			json.NewEncoder(w).Encode(out)
		})
	}
	handle("GET /status", "", n.getArrayStatus)
	handle("GET /ca", "", n.getArrayCAs)
	handle("POST /init", "ARRAY_INIT", n.postArrayInit)
	handle("POST /invites", "ARRAY_INVITE", n.postArrayInvite)
	handle("POST /detach", "ARRAY_DETACH", n.postArrayDetach)
	handle("POST /promote", "ARRAY_PROMOTE", n.postArrayPromote)
	handle("POST /rotate-ca", "ARRAY_ROTATE_CA", n.postArrayRotate)
	handle("POST /confirm", "ARRAY_CONFIRM", n.postArrayConfirm)
	return mux
}

// audited records a change before and after; event is empty for what changes nothing.
func (n *Node) audited(c arrayCall, event string, do func(arrayCall) (any, error)) (any, error) {
	if event == "" {
		return do(c)
	}
	e := audit.Event{Name: event, Outcome: audit.Attempt, Subject: c.who, Fields: map[string]string{}}
	if err := n.Audit.Record(c.Context(), e); err != nil {
		return nil, fmt.Errorf("recording what is about to be done, nothing was changed: %w", err)
	}
	out, err := do(c)
	e.Outcome = audit.Success
	if err != nil {
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	return out, errors.Join(err, n.Audit.Record(context.WithoutCancel(c.Context()), e))
}

// unchanged are errors after which everything is as it was.
var unchanged = []error{peer.ErrOutside, peer.ErrInside, peer.ErrNotPrimary, peer.ErrSuperseded, peer.ErrBusy, peer.ErrDomain, peer.ErrUnknownNode, peer.ErrMemberState}

// arrayProblem answers with what went wrong, of a change or not: all of it, to who owns
// the node.
func arrayProblem(w http.ResponseWriter, err error, change bool) {
	status, text := http.StatusConflict, err.Error()
	var known *api.Error
	if errors.As(err, &known) {
		status = known.Status
	}
	if change && slices.ContainsFunc(unchanged, func(e error) bool { return errors.Is(err, e) }) {
		text += "; nothing was changed"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Problem{Title: http.StatusText(status), Status: status, Detail: text})
}

// read decodes the body of a request.
func (c arrayCall) read(v any) error {
	b, err := io.ReadAll(io.LimitReader(c.Body, 64<<10))
	if err != nil {
		return err
	}
	defer clear(b)
	if err := json.Unmarshal(b, v); err != nil {
		return &api.Error{Status: http.StatusBadRequest, Message: "the body is not what is expected here: " + err.Error()}
	}
	return nil
}

// member is this node's part of its array.
func (n *Node) member() (*peer.Node, error) {
	if n.peers == nil || n.peers.node.Load() == nil {
		return nil, peer.ErrOutside
	}
	return n.peers.node.Load(), nil
}
