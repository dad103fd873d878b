package realm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Client is somebody who accepts this realm's tokens.
type Client struct {
	ID string
	// AdminURL is where it is told of a compromise; empty: it reads the revocation
	// document itself.
	AdminURL string
	// Keycloak: the client is an adapter of Keycloak's.
	Keycloak bool
	// HTTP reaches AdminURL; nil = that of the realm.
	HTTP *http.Client
}

// Push is what telling one client came to.
type Push struct {
	Client string
	Node   bool // it is another node
	URL    string
	Result PushResult
	Tries  int
	Err    string // the latest
}

// PushResult is how a push ended.
type PushResult string

// Results.
const (
	PushDone   PushResult = "ok"
	PushFailed PushResult = "failed"
	PullOnly   PushResult = "pull only" // the client has no URL
)

// PushTimeout bounds one try.
const PushTimeout = 10 * time.Second

// pushWaits are the times between tries.
var pushWaits = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}

// NotBeforePath is where, below AdminURL, a push goes; PushAction is what it says.
const (
	NotBeforePath = "/tms/v1/not-before"
	PushAction    = "PUSH_NOT_BEFORE"
)

// NotBefore is the body of a push: no token issued before NotBefore counts, seconds
// since 1970, and no signature by one of Revoked.
type NotBefore struct {
	Claims
	Action    string   `json:"action"`
	NotBefore int64    `json:"not_before"`
	Revoked   []string `json:"revoked_kids"`
}

// keycloakClaims is that of an adapter of Keycloak's.
type keycloakClaims struct {
	Claims
	KeycloakID string `json:"id"`
	Expiration int64  `json:"expiration"`
	Resource   string `json:"resource"`
	Action     string `json:"action"`
	NotBefore  int64  `json:"notBefore"`
}

// push tells every client and node, at once, and waits for all.
func (r *Realm) push(ctx context.Context) ([]Push, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return nil, err
	}
	var nodes []Client
	if r.cfg.Nodes != nil {
		nodes = r.cfg.Nodes(ctx)
	}
	out := make([]Push, len(nodes)+len(r.cfg.Clients))
	var all sync.WaitGroup
	for i, c := range append(nodes, r.cfg.Clients...) {
		all.Go(func() {
			out[i] = r.tell(ctx, c, rec)
			out[i].Node = i < len(nodes)
		})
	}
	all.Wait()
	return out, nil
}

func (r *Realm) tell(ctx context.Context, c Client, rec Records) Push {
	p := Push{Client: c.ID, URL: c.AdminURL, Result: PullOnly}
	if c.AdminURL == "" {
		return p
	}
	p.Result = PushFailed
	for {
		p.Tries++
		err := r.tellOnce(ctx, c, rec)
		if err == nil {
			p.Result, p.Err = PushDone, ""
			return p
		}
		p.Err = err.Error()
		if p.Tries > len(pushWaits) || r.wait(ctx, pushWaits[p.Tries-1]) != nil {
			return p
		}
	}
}

const pushLifetime = 30 * time.Second

func (r *Realm) tellOnce(ctx context.Context, c Client, rec Records) error {
	k, err := r.anySigning(rec.Keys)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	path, media := NotBeforePath, "application/jwt"
	var claims claimer = &NotBefore{Claims: Claims{Audience: c.ID, ID: id}, Action: PushAction, NotBefore: unix(rec.notBefore(ForSessions)), Revoked: revoked(rec.Keys)}
	if c.Keycloak {
		path, media = "/k_push_not_before", "text/plain"
		claims = &keycloakClaims{Claims: Claims{Audience: c.ID, ID: id}, KeycloakID: id, Expiration: r.now().Add(pushLifetime).Unix(),
			Resource: c.ID, Action: PushAction, NotBefore: unix(rec.notBefore(ForSessions))}
	}
	body, err := r.Sign(ctx, Type{pushType.Name, ForSessions, []Algorithm{k.Algorithm}}, pushLifetime, claims)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.AdminURL, "/")+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	by := c.HTTP
	if by == nil {
		by = r.cfg.HTTP
	}
	res, err := by.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // the status says it all
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s answered %s", req.URL, res.Status)
	}
	return nil
}

// unix is t in seconds, 0 for none.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
