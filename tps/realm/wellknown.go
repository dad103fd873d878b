package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// revocationMaxAge is for how long clients may keep the revocation document.
const revocationMaxAge = time.Minute

// WellKnown serves what everybody may know: the public keys at
// /.well-known/jwks.json, where things are at /.well-known/openid-configuration, and
// what no longer counts, signed, at /.well-known/tms-revocation. tokenPath is where
// tokens are issued.
func WellKnown(r *Realm, tokenPath string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/jwks.json", r.serve("application/jwk-set+json", JWKSMaxAge, r.JWKS))
	mux.Handle("GET /.well-known/openid-configuration", r.serve("application/json", JWKSMaxAge,
		func(context.Context) ([]byte, error) { return r.discovery(tokenPath) }))
	mux.Handle("GET /.well-known/tms-revocation", r.serve("application/jwt", revocationMaxAge, func(ctx context.Context) ([]byte, error) {
		s, err := r.Revocation(ctx)
		return []byte(s), err
	}))
	return mux
}

// Told takes the pushes of other nodes at POST [NotBeforePath]. Nothing of the keys is
// cached, so what they say is in force already; the node reports what it signs with
// now, and destroys what it has to, before it answers.
func Told(r *Realm) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(PushTimeout)) // what has none is no connection
		b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxToken))
		var c NotBefore
		if err == nil {
			err = r.Verify(req.Context(), string(b), pushType, &c)
		}
		if err == nil && (c.Action != PushAction || c.Audience != r.cfg.Node) {
			err = fmt.Errorf("not for this node: %w", ErrToken)
		}
		if err != nil {
			r.cfg.Log.WarnContext(req.Context(), "push refused", slog.Any("err", err))
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		if _, err := r.lookOnce(req.Context(), Report{}); err != nil {
			r.cfg.Log.ErrorContext(req.Context(), "acting on a push", slog.Any("err", err))
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// discovery is the metadata of OpenID Connect Discovery 1.0 §3, as far as there is
// something behind it.
func (r *Realm) discovery(tokenPath string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                r.cfg.Issuer,
		"jwks_uri":              r.cfg.Issuer + "/.well-known/jwks.json",
		"token_endpoint":        r.cfg.Issuer + tokenPath,
		"tms_revocation_uri":    r.cfg.Issuer + "/.well-known/tms-revocation",
		"grant_types_supported": []string{"password", "refresh_token"},
		"access_token_signing_alg_values_supported": accessType.Algorithms,
		"id_token_signing_alg_values_supported":     idType.Algorithms,
		"response_types_supported":                  []string{"none"},
		"subject_types_supported":                   []string{"public"},
		"scopes_supported":                          []string{ScopeOpenID},
		"claims_supported":                          []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "name", "email", "roles"},
		"token_endpoint_auth_methods_supported":     []string{"none"},

		"tls_client_certificate_bound_access_tokens": true, // RFC 8705 §3.3: those of a login by card
	})
}

// serve serves what make makes, with an ETag over its bytes (RFC 9110 §8.8.3).
func (r *Realm) serve(media string, maxAge time.Duration, make func(context.Context) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := make(req.Context())
		if err != nil {
			status := http.StatusInternalServerError
			if errors.Is(err, ErrNoKey) {
				status = http.StatusServiceUnavailable
			}
			r.cfg.Log.ErrorContext(req.Context(), "serving "+req.URL.Path, slog.Any("err", err))
			http.Error(w, http.StatusText(status), status)
			return
		}
		sum := sha256.Sum256(b)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(maxAge.Seconds())))
		h.Set("X-Content-Type-Options", "nosniff")
		if req.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", media)
		w.Write(b)
	})
}
