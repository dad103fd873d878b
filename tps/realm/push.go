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
}

// Push is what telling one client came to.
type Push struct {
	Client string
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

// pushTimeout bounds one try.
const pushTimeout = 10 * time.Second

// pushWaits are the times between tries.
var pushWaits = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}

// notBeforeClaims is the body of a push.
type notBeforeClaims struct {
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

// push tells every client, at once, and waits for all.
func (r *Realm) push(ctx context.Context) ([]Push, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Push, len(r.cfg.Clients))
	var all sync.WaitGroup
	for i, c := range r.cfg.Clients {
		all.Go(func() { out[i] = r.tell(ctx, c, rec) })
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
	k, err := anySigning(rec.Keys)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	path, media := "/tms/v1/not-before", "application/jwt"
	var claims claimer = &notBeforeClaims{Claims: Claims{Audience: c.ID, ID: id}, Action: "PUSH_NOT_BEFORE", NotBefore: rec.NotBefore.Unix(), Revoked: revoked(rec.Keys)}
	if c.Keycloak {
		path, media = "/k_push_not_before", "text/plain"
		claims = &keycloakClaims{Claims: Claims{Audience: c.ID, ID: id}, KeycloakID: id, Expiration: r.now().Add(pushLifetime).Unix(),
			Resource: c.ID, Action: "PUSH_NOT_BEFORE", NotBefore: rec.NotBefore.Unix()}
	}
	body, err := r.Sign(ctx, k.Algorithm, "JWT", pushLifetime, claims)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.AdminURL, "/")+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	res, err := r.cfg.HTTP.Do(req)
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
