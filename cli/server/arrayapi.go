package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/peer"
	"inkan/tps/wire"
)

// ArrayPath is where the array is managed: for local administrators only.
const ArrayPath = "/array"

// ArrayInit asks for an array of one.
type ArrayInit struct {
	Name         string   `json:"Name"`         // empty: the node's
	Domains      []string `json:"Domains"`      // beside the domain of the node's own name
	RecoveryFile string   `json:"RecoveryFile"` // absolute, on the node's machine; empty: no recovery key is made
}

// ArrayInvite asks for an invite.
type ArrayInvite struct {
	Name  string        `json:"Name"`
	Roles []string      `json:"Roles"`
	TTL   time.Duration `json:"TTL"` // 0: an hour
}

// Invited is what an invite is good for; the code is beside it, as Code.
type Invited struct {
	Name        string    `json:"Name"`
	Roles       []string  `json:"Roles"`
	Expires     time.Time `json:"Expires"`
	Primary     string    `json:"Primary"`     // host:port
	Fingerprint string    `json:"Fingerprint"` // of the CA
}

// ArrayDetach asks to take a member out.
type ArrayDetach struct {
	Name  string `json:"Name"` // of the member; empty: this node itself
	Force bool   `json:"Force"`
}

// ArrayPromote asks for another primary. A recovery key, PEM, is beside it as
// RecoveryKey.
type ArrayPromote struct {
	Name  string `json:"Name"`  // empty: this node
	Force bool   `json:"Force"` // the primary is lost
}

// ArrayRotate asks for a new CA.
type ArrayRotate struct {
	Domains []string `json:"Domains"` // to be added
}

// ArrayConfirm accepts a promotion by force.
type ArrayConfirm struct {
	Fingerprint string `json:"Fingerprint"` // of the new primary's CA
}

// Changed is how a change of the array has ended.
type Changed struct {
	Fingerprint string `json:"Fingerprint,omitempty"` // of the CA, where it is a new one
	// Pending is what the change still waits for; it goes on by itself. Empty: nothing.
	Pending string `json:"Pending,omitempty"`
}

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

// postArrayInit makes an array of one. Where the node runs, its port is opened first:
// one that is taken is refused before anything is made.
func (n *Node) postArrayInit(c arrayCall) (any, error) {
	var q ArrayInit
	if err := c.read(&q); err != nil {
		return nil, err
	}
	if q.Name == "" {
		q.Name = n.Config.Node.Name
	}
	if n.peers.Joined() {
		return nil, peer.ErrInside
	}
	if err := n.peers.open(c.Context()); err != nil {
		return nil, fmt.Errorf("%w; [listen] peer_name and peer_address say how the other nodes find this one; nothing was changed", err)
	}
	var port net.Listener
	if n.serving.Load() {
		var err error
		if port, err = n.peers.Listen(c.Context()); err != nil {
			return nil, fmt.Errorf("listening for the other nodes ([listen] peer), nothing was changed: %w", err)
		}
	}
	node := n.peers.node.Load()
	if err := node.Init(c.Context(), q.Name, peer.InitOptions{Domains: q.Domains, RecoveryFile: q.RecoveryFile}); err != nil {
		if port != nil {
			err = errors.Join(err, port.Close())
		}
		return nil, err
	}
	if port != nil {
		n.peers.port <- port
		if err := n.publish(c.Context()); err != nil {
			return nil, fmt.Errorf("the array is made; %w", err)
		}
	}
	return n.getArrayStatus(c)
}

// codeAnswer is an invite with its code, which is sent once.
type codeAnswer struct {
	Invited
	code secret.Secret
}

func (a codeAnswer) write(w io.Writer) {
	defer a.code.Wipe()
	b, err := api.EncodeSecret(a.Invited, "Code", a.code)
	if err == nil {
		w.Write(b)
	}
	clear(b)
}

// errOwnRecords: other nodes cannot share a file of this machine.
var errOwnRecords = errors.New("the records of this node are in a file of its own ([database] file); the nodes of an array share a PostgreSQL database: " +
	"inkan config move-database takes them there; nothing was changed")

func (n *Node) postArrayInvite(c arrayCall) (any, error) {
	var q ArrayInvite
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if n.Config.Database.URL == "" {
		return nil, errOwnRecords
	}
	out := codeAnswer{Invited: Invited{Name: q.Name, Roles: q.Roles}}
	var roles []peer.Role
	for _, r := range q.Roles {
		roles = append(roles, peer.Role(r))
	}
	if q.TTL == 0 {
		q.TTL = time.Hour
	}
	if out.code, err = node.Invite(q.Name, roles, q.TTL); err != nil {
		return nil, err
	}
	out.Expires = time.Now().Add(q.TTL).UTC().Truncate(time.Second)
	s, _ := node.State()
	self, _ := s.Member(node.ID())
	out.Primary = self.Address
	for _, ca := range node.CAs() {
		if ca.Role == peer.CurrentCA {
			out.Fingerprint = ca.Fingerprint.String()
		}
	}
	return out, nil
}

// named finds a member; empty: this node.
func named(node *peer.Node, name string) (string, error) {
	s, ok := node.State()
	if !ok {
		return "", peer.ErrOutside
	}
	if name == "" {
		return node.ID(), nil
	}
	for _, m := range s.Members {
		if m.Name == name || m.Node == name {
			return m.Node, nil
		}
	}
	return "", fmt.Errorf("%w: %s (inkan array status lists them)", peer.ErrUnknownNode, name)
}

// errNotRunning: the others have to be reached for a change.
var errNotRunning = errors.New("the node does not run (inkan serve), and the other nodes have to follow a change: start it first; nothing was changed")

func (n *Node) postArrayDetach(c arrayCall) (any, error) {
	var q ArrayDetach
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if q.Name == "" {
		return Changed{}, node.DetachSelf(c.Context())
	}
	id, err := named(node, q.Name)
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	ctx, cancel := context.WithTimeout(c.Context(), detachTimeout)
	defer cancel()
	return settled(node.Detach(ctx, id, q.Force))
}

// Longest waits for the end of a change, which goes on by itself behind them.
const (
	changeTimeout = 2 * time.Minute
	detachTimeout = 7 * time.Minute // the member may end what runs for 5
)

// settled takes a change that was made and that goes on by itself for what it is.
func settled(err error) (any, error) {
	if errors.Is(err, peer.ErrPending) {
		return Changed{Pending: err.Error()}, nil
	}
	return Changed{}, err
}

func (n *Node) postArrayPromote(c arrayCall) (any, error) {
	var q struct {
		ArrayPromote
		RecoveryKey api.Text `json:"RecoveryKey"`
	}
	if err := c.read(&q); err != nil {
		return nil, err
	}
	defer q.RecoveryKey.Wipe()
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	id, err := named(node, q.Name)
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	if !q.Force {
		ctx, cancel := context.WithTimeout(c.Context(), changeTimeout)
		defer cancel()
		return settled(node.Promote(ctx, id))
	}
	if id != node.ID() {
		return nil, errors.New("promotion by force runs on the node that is to be the primary; nothing was changed")
	}
	f, err := node.ForcePromote(c.Context(), q.RecoveryKey.Secret)
	if err != nil {
		return nil, err
	}
	return Changed{Fingerprint: f.String()}, nil
}

func (n *Node) postArrayRotate(c arrayCall) (any, error) {
	var q ArrayRotate
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	if !n.serving.Load() {
		return nil, errNotRunning
	}
	ctx, cancel := context.WithTimeout(c.Context(), changeTimeout)
	defer cancel()
	return settled(node.RotateCA(ctx, q.Domains...))
}

func (n *Node) postArrayConfirm(c arrayCall) (any, error) {
	var q ArrayConfirm
	if err := c.read(&q); err != nil {
		return nil, err
	}
	node, err := n.member()
	if err != nil {
		return nil, err
	}
	f, err := wire.ParseFingerprint(q.Fingerprint)
	if err != nil {
		return nil, err
	}
	return Changed{Fingerprint: f.String()}, node.Confirm(f)
}
