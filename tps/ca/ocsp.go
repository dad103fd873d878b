package ca

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/tps/token"
)

// maxOCSPCache is how many signed responses are kept, of about 1 KiB each.
const maxOCSPCache = 8192

// ErrMalformed is an OCSP request that cannot be read, or not wholly understood.
var ErrMalformed = errors.New("malformed OCSP request")

// OCSPResponse is a signed answer (RFC 6960 §4.2.1).
type OCSPResponse struct {
	DER        []byte // not to be changed
	ThisUpdate time.Time
	NextUpdate time.Time
	// Shared says that others who ask the same may get this answer too: it bears no
	// nonce, and the authority knows every certificate in it.
	Shared bool
}

// ocspState is what the responder remembers.
type ocspState struct {
	renewing  sync.Mutex // guards the next two
	responder *ocspResponder
	retry     time.Time // until then no certificate is asked for again

	changes atomic.Int64 // revocations changed here
	seen    struct {     // change number of the store, for those of other nodes
		sync.Mutex
		change int64
		at     time.Time
	}
	cache struct {
		sync.Mutex
		at      ocspVersion // of all entries
		answers map[string]OCSPResponse
	}
}

// ocspVersion names a state of all revocations: a response made from one is right
// as long as the version is the same.
type ocspVersion struct{ here, store int64 }

// OCSP answers a request (DER) about certificates of this authority: good,
// revoked with time and reason, or unknown for what it has not issued. The nonce
// is repeated where there is one; an answer without is signed once and given to
// all who ask the same, until a revocation changes or three quarters of its life
// are over. What this process revokes shows at once, what another one revokes
// within a second.
//
// Errors are ErrMalformed, ErrUnavailable or the context's.
func (e *Embedded) OCSP(ctx context.Context, request []byte) (OCSPResponse, error) {
	req, err := readOCSPRequest(request)
	if err != nil {
		return OCSPResponse{}, err
	}
	return e.answerOCSP(ctx, req)
}

func readOCSPRequest(der []byte) (ocspRequest, error) {
	req, err := parseOCSPRequest(der)
	if err != nil {
		return ocspRequest{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return req, nil
}

func (e *Embedded) answerOCSP(ctx context.Context, req ocspRequest) (OCSPResponse, error) {
	now := e.now()
	version, err := e.ocspVersion(ctx, now)
	if err != nil {
		return OCSPResponse{}, err
	}
	key := ""
	if len(req.certs) == 1 && req.nonce == nil {
		key = string(req.certs[0].Raw)
		if known, ok := e.cachedOCSP(key, version, now); ok {
			return known, nil
		}
	}
	res, err := e.signOCSP(ctx, req, now)
	if err != nil {
		return OCSPResponse{}, err
	}
	if key != "" && res.Shared {
		e.cacheOCSP(key, version, res)
	}
	return res, nil
}

// ocspVersion is taken before a status is read, and raised after it is written:
// a response made in between bears the older version and is not used again.
func (e *Embedded) ocspVersion(ctx context.Context, now time.Time) (ocspVersion, error) {
	here := e.ocsp.changes.Load()
	seen := &e.ocsp.seen
	seen.Lock()
	defer seen.Unlock()
	if since := now.Sub(seen.at); since < 0 || since >= crlCheck {
		_, change, err := e.cfg.Store.LatestCRL(ctx)
		if err != nil {
			return ocspVersion{}, storeError("asking for changed revocations", err)
		}
		seen.change, seen.at = change, now
	}
	return ocspVersion{here, seen.change}, nil
}

func (e *Embedded) cachedOCSP(key string, v ocspVersion, now time.Time) (OCSPResponse, bool) {
	c := &e.ocsp.cache
	c.Lock()
	defer c.Unlock()
	res, ok := c.answers[key]
	fresh := !now.Before(res.ThisUpdate) && now.Before(res.NextUpdate.Add(-res.NextUpdate.Sub(res.ThisUpdate)/4))
	return res, ok && c.at == v && fresh
}

func (e *Embedded) cacheOCSP(key string, v ocspVersion, res OCSPResponse) {
	c := &e.ocsp.cache
	c.Lock()
	defer c.Unlock()
	if c.at != v || c.answers == nil || len(c.answers) >= maxOCSPCache {
		c.at, c.answers = v, map[string]OCSPResponse{}
	}
	c.answers[key] = res
}

// signOCSP looks every certificate up and signs the answer.
func (e *Embedded) signOCSP(ctx context.Context, req ocspRequest, now time.Time) (OCSPResponse, error) {
	res := OCSPResponse{Shared: req.nonce == nil}
	var answers []ocspAnswer
	for _, id := range req.certs {
		a, err := e.statusOf(ctx, id)
		if err != nil {
			return OCSPResponse{}, err
		}
		res.Shared = res.Shared && a.status != ocsp.Unknown // it may be issued any time
		answers = append(answers, a)
	}
	r, err := e.responder(ctx, now)
	if err != nil {
		return OCSPResponse{}, fmt.Errorf("signing an OCSP response: %w", err)
	}
	res.ThisUpdate, res.NextUpdate = now, earliest(now.Add(e.cfg.OCSPLifetime), r.cert.NotAfter)
	if res.DER, err = encodeOCSP(r, answers, req.nonce, ocspDates{res.ThisUpdate, res.NextUpdate}); err != nil {
		return OCSPResponse{}, fmt.Errorf("%w: signing an OCSP response: %w", ErrUnavailable, err)
	}
	return res, nil
}

// statusOf finds out about one certificate. One that is on record but was never
// signed has not been issued.
func (e *Embedded) statusOf(ctx context.Context, id ocspCertID) (ocspAnswer, error) {
	a := ocspAnswer{cert: id, status: ocsp.Unknown}
	if !id.issuedBy(e.cert.RawSubject, e.keyBits) || id.Serial.Sign() <= 0 || id.Serial.BitLen() > 160 {
		return a, nil
	}
	rec, err := e.cfg.Store.IssuedBySerial(ctx, serialOf(id.Serial))
	switch {
	case errors.Is(err, token.ErrNotFound), err == nil && rec.DER == nil:
		return a, nil
	case err != nil:
		return a, storeError("reading the record of a certificate", err)
	}
	a.status, a.revocation = ocsp.Good, rec.Revocation
	if !rec.Revocation.At.IsZero() {
		a.status = ocsp.Revoked
	}
	return a, nil
}
