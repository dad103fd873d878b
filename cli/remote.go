package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tps/api"
)

// remoteFlags are those of commands that work on another node as well.
func remoteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "`URL` of a node, https://host:port, where inkan login was before; default: the node of --data"},
		&cli.StringFlag{Name: "trust", Usage: "PEM `FILE` with the CA of the server"},
		&cli.StringFlag{Name: "fingerprint", Usage: "`SHA256` of the CA of the server, accepted without asking"},
	}
}

// remote gives a command and those below it the flags.
func remote(c *cli.Command) *cli.Command {
	if len(c.Subcommands) == 0 {
		c.Flags = append(c.Flags, remoteFlags()...)
	}
	for _, sub := range c.Subcommands {
		remote(sub)
	}
	return c
}

// session is a login that is kept in a file.
type session struct {
	Server  string    `json:"server"`
	User    string    `json:"user"`
	Access  string    `json:"access_token"`
	Expires time.Time `json:"expires"`
	Refresh string    `json:"refresh_token"`
	// Card is the one that the session began with; nil: a password did.
	Card *sessionCard `json:"card,omitempty"`
}

// account is a session, where it is kept and how its server is reached.
type account struct {
	session
	file   string
	client *http.Client
	id     string // token of the latest login
}

// errNoSession means that nobody is logged in.
var errNoSession = errors.New("you are not logged in there: inkan login --server")

// account finds the server of the flags, and the session with it if there is one.
func (p *program) account(c *cli.Context) (*account, error) {
	url := strings.TrimSuffix(c.String("server"), "/")
	if url == "" {
		return nil, usagef("--server is needed")
	}
	s := p.serverOf(c)
	s.URL = url
	reached, err := s.Client(c.Context)
	if err != nil {
		return nil, err
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("finding your configuration folder: %w", err)
	}
	sum := sha256.Sum256([]byte(url))
	a := &account{session: session{Server: url}, file: filepath.Join(dir, "inkan", "sessions", hex.EncodeToString(sum[:8])+".json"),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: reached.TLS, Proxy: http.ProxyFromEnvironment}, Timeout: 5 * time.Minute}}
	return a, a.load()
}

// load reads the session; none is no error.
func (a *account) load() error {
	b, err := os.ReadFile(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		a.session = session{Server: a.Server}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading your session: %w", err)
	}
	defer clear(b)
	if err := json.Unmarshal(b, &a.session); err != nil {
		return fmt.Errorf("%s is damaged: delete it and log in again", a.file)
	}
	return nil
}

// save writes the session in place of the one before.
func (a *account) save() error {
	b, err := json.Marshal(a.session)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := os.MkdirAll(filepath.Dir(a.file), 0o700); err != nil {
		return fmt.Errorf("keeping your session: %w", err)
	}
	if err := durable.ReplaceFile(a.file, b, 0o600); err != nil {
		return fmt.Errorf("keeping your session: %w", err)
	}
	return nil
}

// Times of the lock of a session: of two commands that want to renew it, one does.
const (
	sessionWait  = 30 * time.Second
	sessionStale = time.Minute
)

// locked runs do while no other command renews the session.
func (a *account) locked(ctx context.Context, do func() error) error {
	lock := a.file + ".lock"
	ctx, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	for {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			defer os.Remove(lock)
			return do()
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("renewing your session: %w", err)
		}
		if i, err := os.Stat(lock); err == nil && time.Since(i.ModTime()) > sessionStale {
			os.Remove(lock) // left behind by a command that was killed
			continue
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("another command holds %s: %w", lock, ctx.Err())
		}
	}
}

// ask sends a body to the account resources and keeps the tokens of the answer. The
// body is wiped.
func (a *account) ask(ctx context.Context, path string, body []byte) error {
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Server+api.Base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", a.Server, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", a.Server, err)
	}
	defer clear(b)
	if res.StatusCode >= 300 {
		return refusal(res.StatusCode, b)
	}
	if res.StatusCode == http.StatusNoContent {
		return nil
	}
	var g struct {
		api.Tokens
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		ID      string `json:"id_token"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", a.Server, err)
	}
	a.id = g.ID
	a.Access, a.Refresh, a.Expires = g.Access, g.Refresh, time.Now().Add(time.Duration(g.ExpiresIn)*time.Second)
	return a.save()
}

func (a *account) refreshBody() ([]byte, error) {
	refresh := secret.New([]byte(a.Refresh))
	defer refresh.Wipe()
	return api.EncodeSecret(struct{}{}, "refresh_token", refresh)
}

// fresh is how long an access token has to be good for to be used.
const fresh = 30 * time.Second

// renew gets an access token that is good for a while.
func (a *account) renew(ctx context.Context) error {
	if a.Refresh == "" {
		return errNoSession
	}
	if time.Until(a.Expires) > fresh {
		return nil
	}
	return a.locked(ctx, func() error {
		if err := a.load(); err != nil || time.Until(a.Expires) > fresh { // another command did
			return err
		}
		body, err := a.refreshBody()
		if err != nil {
			return err
		}
		return a.ask(ctx, api.TokenPath, body)
	})
}

// RoundTrip implements http.RoundTripper: requests have the access token. One that is
// not accepted, because its key is gone, is replaced once.
func (a *account) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	if err := a.renew(r.Context()); err != nil {
		return nil, err
	}
	res, err := a.try(r)
	if err != nil || res.StatusCode != http.StatusUnauthorized || r.GetBody == nil && r.Body != nil {
		return res, err
	}
	a.Expires = time.Time{}
	if err := a.again(r.Context()); err != nil {
		res.Body.Close()
		return nil, err
	}
	res.Body.Close()
	return a.try(r)
}

// again renews the session whatever the file says of its access token.
func (a *account) again(ctx context.Context) error {
	return a.locked(ctx, func() error {
		had := a.Access
		if err := a.load(); err != nil || a.Access != had {
			return err
		}
		body, err := a.refreshBody()
		if err != nil {
			return err
		}
		return a.ask(ctx, api.TokenPath, body)
	})
}

func (a *account) try(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	r.Header.Set("Authorization", "Bearer "+a.Access)
	return a.client.Transport.RoundTrip(r)
}

// withServer runs do with the node that --server names.
func (p *program) withServer(c *cli.Context, do func(rest) error) error {
	a, err := p.account(c)
	if err != nil {
		return err
	}
	if err := p.show(c.Context, a); err != nil {
		return err
	}
	if err := a.renew(c.Context); err != nil { // says so without the address
		return err
	}
	return do(rest{client: &http.Client{Transport: a, Timeout: a.client.Timeout}, url: a.Server})
}
