package ca

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// ocspMaxAge is for how long a shared cache may keep an answer to a GET: short, as
// for the revocation list, so that a hold is seen soon.
const ocspMaxAge = time.Minute

// postOCSP answers a request in the body (RFC 6960 appendix A.1).
func (g *Generations) postOCSP(w http.ResponseWriter, r *http.Request) {
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSPRequest))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(w, "OCSP request too large", http.StatusRequestEntityTooLarge)
		}
		return // else the client is gone
	}
	res, err := g.askOCSP(r.Context(), der)
	res.Shared = false // nobody caches a POST
	writeOCSP(w, r, res, err)
}

// getOCSP answers a request that stands in the path, in base64.
func (g *Generations) getOCSP(w http.ResponseWriter, r *http.Request, request string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	der, err := decodeOCSPPath(request)
	if err != nil {
		writeOCSP(w, r, OCSPResponse{}, err)
		return
	}
	res, err := g.askOCSP(r.Context(), der)
	if res.Shared {
		now := g.current().now()
		left := min(ocspMaxAge, res.NextUpdate.Sub(now))
		w.Header().Set("Cache-Control", fmt.Sprintf("public, no-transform, must-revalidate, max-age=%d", int(left.Seconds())))
		w.Header().Set("Expires", now.Add(left).Format(http.TimeFormat))
		hash := sha256.Sum256(res.DER)
		w.Header().Set("ETag", `"`+hex.EncodeToString(hash[:16])+`"`)
	}
	writeOCSP(w, r, res, err)
}

func (g *Generations) askOCSP(ctx context.Context, der []byte) (OCSPResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	return g.OCSP(ctx, der)
}

// decodeOCSPPath reads base64, percent-encoded where the client does so, with or
// without padding.
func decodeOCSPPath(s string) ([]byte, error) {
	s, err := url.PathUnescape(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return der, nil
}

// writeOCSP sends a response, or the one that stands for an error: those are not
// signed, and their HTTP status is 200 as well (RFC 6960 appendix A.2).
func writeOCSP(w http.ResponseWriter, r *http.Request, res OCSPResponse, err error) {
	switch {
	case errors.Is(err, ErrMalformed):
		res = OCSPResponse{DER: ocsp.MalformedRequestErrorResponse}
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		res = OCSPResponse{DER: ocsp.TryLaterErrorResponse}
	case err != nil:
		res = OCSPResponse{DER: ocsp.InternalErrorErrorResponse}
	}
	if !res.Shared {
		w.Header().Set("Cache-Control", "no-store")
	}
	serve(w, r, "application/ocsp-response", res.ThisUpdate, res.DER)
}
