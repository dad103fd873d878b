package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Errors of changes and joins.
var (
	// ErrInvite: the code of an invite is unknown, used, expired or for another node.
	ErrInvite = errors.New("invite is not good")
	// ErrVersion: the programs differ in major or minor version.
	ErrVersion = errors.New("versions differ")
	// ErrClock: the clocks differ by more than 30 s.
	ErrClock = errors.New("clocks differ")
	// ErrNameTaken: a member has the name already.
	ErrNameTaken = errors.New("name is taken")
	// ErrBusy: the change before has not converged; the text says what it waits for.
	ErrBusy = errors.New("another change is under way")
	// ErrPending: nobody waits for the end of a change any more.
	ErrPending = errors.New("the change is made and goes on by itself")
	// ErrTooMany: more attempts than a node answers.
	ErrTooMany = errors.New("too many attempts: try again in a minute")
	// ErrFingerprint: the CA that was shown is not the one expected, or was rejected.
	ErrFingerprint = errors.New("CA was not accepted, and nothing was sent")
	// ErrDomain: the array's CA may not certify a name.
	ErrDomain = errors.New("name is outside the domains of the array's CA")
	// ErrState: a state or statement that a node may not accept.
	ErrState = errors.New("array state is not acceptable")
	// ErrBehind: the node has an older state than the caller.
	ErrBehind = errors.New("this node has an older state")
	// ErrRequest: malformed request.
	ErrRequest = errors.New("malformed request")
)

// kinds are how errors travel between nodes.
var kinds = []struct {
	code   string
	status int
	err    error
}{
	{"invite", http.StatusForbidden, ErrInvite},
	{"version", http.StatusPreconditionFailed, ErrVersion},
	{"clock", http.StatusPreconditionFailed, ErrClock},
	{"name-taken", http.StatusConflict, ErrNameTaken},
	{"busy", http.StatusConflict, ErrBusy},
	{"too-many", http.StatusTooManyRequests, ErrTooMany},
	{"not-primary", http.StatusMisdirectedRequest, ErrNotPrimary},
	{"outside", http.StatusServiceUnavailable, ErrOutside},
	{"superseded", http.StatusServiceUnavailable, ErrSuperseded},
	{"state", http.StatusConflict, ErrState},
	{"behind", http.StatusConflict, ErrBehind},
	{"domain", http.StatusForbidden, ErrDomain},
	{"role", http.StatusForbidden, ErrRole},
	{"detached", http.StatusForbidden, ErrDetached},
	{"revoked", http.StatusForbidden, ErrRevoked},
	{"unknown-node", http.StatusForbidden, ErrUnknownNode},
	{"request", http.StatusBadRequest, ErrRequest},
}

// RemoteError is what another node answered in place of doing what it was asked. It
// unwraps to an error of this package where there is one for it.
type RemoteError struct {
	Status int    `json:"status"` // of HTTP
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("the other node refused (%d): %s", e.Status, e.Detail)
}

// Unwrap gives the error of this package that the code stands for.
func (e *RemoteError) Unwrap() error {
	for _, k := range kinds {
		if k.code == e.Code {
			return k.err
		}
	}
	return nil
}

// remoteError is what other nodes are told of an error: nothing beyond the known
// kinds, whose text is made for them.
func remoteError(status int, err error) *RemoteError {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			if status == 0 {
				status = k.status
			}
			return &RemoteError{status, k.code, err.Error()}
		}
	}
	if status == 0 {
		return &RemoteError{http.StatusInternalServerError, "internal", "it failed; its log has more"}
	}
	return &RemoteError{status, "", err.Error()}
}

// problem answers with application/problem+json (RFC 9457). A status of 0 is that of
// the error.
func problem(w http.ResponseWriter, status int, err error) {
	e := remoteError(status, err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(e)
}

// problemOf reads a problem.
func problemOf(res *http.Response) error {
	var e RemoteError
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<10))
	if err != nil || strict(b, &e) != nil {
		return &RemoteError{Status: res.StatusCode, Detail: res.Status}
	}
	e.Status = res.StatusCode
	return &e
}

// call sends a request to a member and decodes its answer, strictly, into out.
func (n *Node) call(ctx context.Context, m Member, method, path string, in, out any) (status int, err error) {
	return callWith(ctx, n.Client(m.Node), m, method, path, in, out)
}
