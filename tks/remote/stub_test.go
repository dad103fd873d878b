package remote_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"

	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/remote"
)

// stub is a key service that answers err, or something of the right form where that
// is nil. It counts what it is asked.
type stub struct {
	mu    sync.Mutex
	err   error
	asked int
	// data is what Encrypt was asked to encrypt, as it was then.
	data []byte
}

func (s *stub) ask() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.err
}

func (s *stub) answers(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *stub) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *stub) Random(_ context.Context, n int) ([]byte, error) { return make([]byte, n), s.ask() }

func (s *stub) DeriveSession(context.Context, tks.SessionRequest) (tks.SessionReply, error) {
	return tks.SessionReply{ENC: secret.Random(16), MAC: secret.Random(16)}, s.ask()
}

func (s *stub) WrapKeySet(context.Context, tks.KeySetRequest) (tks.KeySetReply, error) {
	return tks.KeySetReply{Data: make([]byte, 67)}, s.ask()
}

func (s *stub) Encrypt(_ context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	s.mu.Lock()
	s.data = append([]byte{}, r.Data.Bytes()...)
	s.mu.Unlock()
	return tks.EncryptReply{Data: make([]byte, r.Data.Len())}, s.ask()
}

func (s *stub) CardSecret(context.Context, tks.SecretRequest) (tks.SecretReply, error) {
	return tks.SecretReply{Secret: secret.Random(24)}, s.ask()
}

// inProcess is a transport to a handler without a network.
type inProcess func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	return f(r)
}

// direct is a node whose handler is called at once.
func direct(name string, h http.Handler) remote.Node {
	return through(name, func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result(), nil
	})
}

func through(name string, f inProcess) remote.Node {
	return remote.Node{Name: name, URL: "https://" + name + ".example", Client: &http.Client{Transport: f}}
}

// always identifies everybody as one peer.
func always(name string, g remote.Grant) func(*http.Request) (remote.Caller, error) {
	return func(*http.Request) (remote.Caller, error) { return remote.Caller{Name: name, Grant: g}, nil }
}
