package realm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// discovery is the metadata of OpenID Connect Discovery 1.0 §3, as far as there is
// something behind it.
func (r *Realm) discovery(tokenPath string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                r.cfg.Issuer,
		"jwks_uri":              r.cfg.Issuer + "/.well-known/jwks.json",
		"token_endpoint":        r.cfg.Issuer + tokenPath,
		"tms_revocation_uri":    r.cfg.Issuer + "/.well-known/tms-revocation",
		"grant_types_supported": []string{"password", "refresh_token"},
		"access_token_signing_alg_values_supported": accessAlgorithms,
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
