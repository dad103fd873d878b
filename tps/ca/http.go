package ca

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Paths that [Embedded.Handler] serves.
const (
	PathCRL         = "/ca/crl"       // revocation list, DER
	PathChain       = "/ca/chain.pem" // the authority's certificates, the newest first, and those that link them
	PathCertificate = "/ca/ca.cer"    // the authority's certificate, DER
	PathOCSP        = "/ca/ocsp"      // OCSP responder (RFC 6960 appendix A): POST, or GET with the request behind it
)

// serveTimeout bounds the work for one HTTP request.
const serveTimeout = 15 * time.Second

// Handler serves the public documents of the authority; see [Generations.Handler].
func (e *Embedded) Handler() http.Handler { return (&Generations{all: []*Embedded{e}}).Handler() }

// Handler serves the public documents of the authority to anybody, by GET and
// HEAD, and its OCSP responder. It is to see paths as they came: [http.ServeMux]
// redirects those with two slashes side by side, which an OCSP request in base64
// may have. From the second generation on, list and certificate of a generation
// have its number behind their path.
func (g *Generations) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range g.all {
		mux.HandleFunc("GET "+PathCRL+e.suffix, e.serveCRL)
		mux.HandleFunc("GET "+PathCertificate+e.suffix, func(w http.ResponseWriter, r *http.Request) {
			serve(w, r, "application/pkix-cert", e.cert.NotBefore, e.cert.Raw)
		})
	}
	mux.HandleFunc("POST "+PathOCSP, g.postOCSP)
	mux.HandleFunc("GET "+PathChain, func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, "application/x-pem-file", g.Certificate().NotBefore, g.chainPEM())
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if request, ok := strings.CutPrefix(r.URL.EscapedPath(), PathOCSP+"/"); ok && request != "" {
			g.getOCSP(w, r, request)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (e *Embedded) serveCRL(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), serveTimeout)
	defer cancel()
	crl, err := e.CRL(ctx)
	if err != nil {
		http.Error(w, "revocation list unavailable", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("ETag", `"`+strconv.FormatInt(crl.Number, 10)+`"`)
	w.Header().Set("Cache-Control", "public, max-age=60")
	serve(w, r, "application/pkix-crl", crl.ThisUpdate, crl.DER)
}

func serve(w http.ResponseWriter, r *http.Request, kind string, modified time.Time, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}

func (g *Generations) chainPEM() []byte {
	var b bytes.Buffer
	for _, der := range g.Chain() {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.Bytes()
}
