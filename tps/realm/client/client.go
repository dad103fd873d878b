// Package client is for whoever accepts a realm's tokens and is no node of it: it
// reads the published keys, verifies tokens by them, and learns what no longer
// counts, by the signed revocation document and by pushes. [New] makes a [Client];
// [Client.Verify] is the usual call. Nothing but what is named in the call's
// realm.Type is accepted. A Client is safe for concurrent use.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"inkan/tps/realm"
)

// Times of reading.
const (
	fetchAtMost = 10 * time.Second // keys, however many unknown kids are seen
	keepKeys    = realm.JWKSMaxAge
	dropKeys    = 24 * time.Hour // where they cannot be read again
	pollEvery   = time.Minute    // the revocation document
)

// Limits of what is read, in bytes.
const (
	maxKeys  = 1 << 20
	maxToken = 16 << 10
)

// leeway is by how much clocks may differ.
const leeway = 5 * time.Second

// Config is what a client needs.
type Config struct {
	Issuer string // of the tokens
	URL    string // whose /.well-known has the keys; default: Issuer
	ID     string // of this client there: tokens for others are refused
	HTTP   *http.Client
	Log    *slog.Logger // nil = discard
}

// Client verifies tokens.
type Client struct {
	cfg Config
	now func() time.Time

	reading sync.Mutex // of the keys, by one at a time
	tried   time.Time  // the latest

	mu        sync.Mutex // what follows
	keys      jose.JSONWebKeySet
	read      time.Time // keys were
	notBefore int64
	revoked   []string
}

// New returns a client. It reads nothing yet.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.URL == "" {
		cfg.URL = cfg.Issuer
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: realm.PushTimeout}
	}
	return &Client{cfg: cfg, now: time.Now}
}

// claimer is a type that embeds realm.Claims.
type claimer interface{ Standard() *realm.Claims }

// Verify reads a token of a type for this client into claims. Errors wrap
// realm.ErrToken, or say why the keys cannot be read.
func (c *Client) Verify(ctx context.Context, text string, t realm.Type, claims claimer) error {
	if err := c.open(ctx, text, t, claims); err != nil {
		return err
	}
	std := claims.Standard()
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case std.Issuer != c.cfg.Issuer:
		return fmt.Errorf("issued by %q: %w", std.Issuer, realm.ErrToken)
	case std.Audience != c.cfg.ID:
		return fmt.Errorf("for %q: %w", std.Audience, realm.ErrToken)
	case std.Expires <= now.Unix():
		return fmt.Errorf("expired: %w", realm.ErrToken)
	case std.IssuedAt > now.Add(leeway).Unix():
		return fmt.Errorf("issued in the future: %w", realm.ErrToken)
	case t.Use == realm.ForSessions && std.IssuedAt < c.notBefore:
		return fmt.Errorf("issued before the keys were replaced: %w", realm.ErrToken)
	}
	return nil
}

// open checks type and signature.
func (c *Client) open(ctx context.Context, text string, t realm.Type, v any) error {
	if len(text) > maxToken {
		return fmt.Errorf("%d bytes: %w", len(text), realm.ErrToken)
	}
	var allowed []jose.SignatureAlgorithm
	for _, a := range t.Algorithms {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	parsed, err := jwt.ParseSigned(text, allowed)
	if err != nil || len(parsed.Headers) != 1 {
		return fmt.Errorf("not a signed token of an accepted algorithm: %w", realm.ErrToken)
	}
	h := parsed.Headers[0]
	if got, _ := h.ExtraHeaders[jose.HeaderType].(string); got != t.Name {
		return fmt.Errorf("a token of type %q, not %q: %w", got, t.Name, realm.ErrToken)
	}
	k, err := c.key(ctx, h.KeyID)
	if err != nil {
		return err
	}
	if k.Use != string(t.Use) || k.Algorithm != h.Algorithm {
		return fmt.Errorf("signed by a key for something else: %w", realm.ErrToken)
	}
	if err := parsed.Claims(k.Key, v); err != nil {
		return fmt.Errorf("the signature does not verify: %w", realm.ErrToken)
	}
	return nil
}

// key is the one that a kid names. An unknown kid is a reason to read the keys again,
// at most every 10 seconds; keys that are old are read again and meanwhile used.
func (c *Client) key(ctx context.Context, kid string) (jose.JSONWebKey, error) {
	k, age, ok := c.known(kid)
	switch {
	case !ok || age > dropKeys:
		c.reading.Lock()
		err := c.readKeys(ctx, kid)
		c.reading.Unlock()
		if err != nil {
			return jose.JSONWebKey{}, err
		}
		k, _, ok = c.known(kid)
	case age > keepKeys && c.reading.TryLock():
		if err := c.readKeys(ctx, kid); err != nil {
			c.cfg.Log.WarnContext(ctx, "reading the keys again", slog.Any("err", err))
		}
		c.reading.Unlock()
		k, _, ok = c.known(kid)
	}
	if !ok {
		return jose.JSONWebKey{}, fmt.Errorf("signed by a key that is not known or no longer counts: %w", realm.ErrToken)
	}
	return k, nil
}

// known is a key that was read and is not revoked, and how long ago.
func (c *Client) known(kid string) (jose.JSONWebKey, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys.Keys {
		if k.KeyID == kid && k.IsPublic() && k.Valid() && !slices.Contains(c.revoked, kid) {
			return k, c.now().Sub(c.read), true
		}
	}
	return jose.JSONWebKey{}, 0, false
}

// readKeys reads the keys, unless that was tried just now, or somebody who was faster
// found the one that is wanted. The caller holds reading.
func (c *Client) readKeys(ctx context.Context, wanted string) error {
	if _, age, ok := c.known(wanted); ok && age <= keepKeys || c.now().Sub(c.tried) < fetchAtMost {
		return nil
	}
	c.tried = c.now()
	b, err := c.get(ctx, "/.well-known/jwks.json")
	if err != nil {
		return err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return fmt.Errorf("reading the keys of %s: %w", c.cfg.Issuer, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys, c.read = set, c.now()
	return nil
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.cfg.URL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", c.cfg.URL, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking %s: %s answered %s", c.cfg.URL, path, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxKeys))
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", c.cfg.URL, err)
	}
	return b, nil
}

// Poll reads what no longer counts.
func (c *Client) Poll(ctx context.Context) error {
	b, err := c.get(ctx, "/.well-known/tms-revocation")
	if err != nil {
		return err
	}
	var doc realm.Revocation
	if err := c.open(ctx, string(b), realm.RevocationType(), &doc); err != nil {
		return fmt.Errorf("reading what is revoked at %s: %w", c.cfg.Issuer, err)
	}
	if doc.Issuer != c.cfg.Issuer {
		return fmt.Errorf("reading what is revoked at %s: it is by %q: %w", c.cfg.Issuer, doc.Issuer, realm.ErrToken)
	}
	c.revoke(doc.NotBefore[string(realm.ForSessions)], doc.Revoked)
	return nil
}

// revoke notes what no longer counts; not before never goes back.
func (c *Client) revoke(notBefore int64, kids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notBefore = max(c.notBefore, notBefore)
	for _, kid := range kids {
		if !slices.Contains(c.revoked, kid) {
			c.revoked = append(c.revoked, kid)
		}
	}
}

// Run polls until ctx ends.
func (c *Client) Run(ctx context.Context) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		if err := c.Poll(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "asking what is revoked", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// ServeHTTP takes pushes: it belongs at POST realm.NotBeforePath.
func (c *Client) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxToken))
	var push realm.NotBefore
	if err == nil {
		err = c.Verify(r.Context(), string(b), realm.PushType(), &push)
	}
	if err == nil && push.Action != realm.PushAction {
		err = fmt.Errorf("no push: %w", realm.ErrToken)
	}
	switch {
	case errors.Is(err, realm.ErrToken):
		http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
	case err != nil:
		http.Error(w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
	default:
		c.revoke(push.NotBefore, push.Revoked)
		w.WriteHeader(http.StatusNoContent)
	}
}
