package remote

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"strings"

	"inkan/tks"
	"inkan/tks/hsm"
)

// Labels of the key pairs that peers get at: the embedded authority's and the
// realm's. Master keys are no key pairs, and the array's own authority is nobody's
// but its primary's.
const (
	authorityPrefix = "tms:ca:"
	realmPrefix     = "tms:sign:"
)

// within refuses a label that begins with none of prefixes.
func (m *labelled) within(prefixes ...string) error {
	for _, p := range prefixes {
		if strings.HasPrefix(string(m.Label), p) {
			return m.check()
		}
	}
	return fmt.Errorf("key pair %.80q: another node gets at %s only: %w", m.Label, strings.Join(prefixes, "… and ")+"…", tks.ErrDenied)
}

func (m *labelled) check() error {
	if err := m.Label.Check(); err != nil {
		return fmt.Errorf("%w: %w", err, ErrRequest)
	}
	return nil
}

// recorded runs f and records it before its answer is handed out.
func recorded[M message](h *Handler, path string, m Method, f func(context.Context, M) (answer, error)) func(context.Context, M) (answer, error) {
	return func(ctx context.Context, in M) (answer, error) {
		out, err := f(ctx, in)
		caller, _ := CallerOf(ctx)
		s := in.about()
		return out, h.record(ctx, Event{
			Method: m, Call: path, Peer: caller.Name, KeySets: s.sets, CUID: s.cuid, KDD: s.kdd, Label: s.label, Err: err,
		})
	}
}

// signers serves a call where the node has key pairs for others.
func signers[M message](h *Handler, f func(context.Context, M) (answer, error)) func(context.Context, M) (answer, error) {
	return func(ctx context.Context, in M) (answer, error) {
		if h.cfg.Signers == nil {
			return answer{}, fmt.Errorf("this node has no key pairs for others: %w", tks.ErrDenied)
		}
		return f(ctx, in)
	}
}

func (h *Handler) find(ctx context.Context, in *labelled) (answer, error) {
	if err := in.within(authorityPrefix, realmPrefix); err != nil {
		return answer{}, err
	}
	s, err := h.cfg.Signers.Signer(ctx, in.Label)
	if err != nil {
		return answer{}, err
	}
	return publicOf(s)
}

func publicOf(s crypto.Signer) (answer, error) {
	der, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		return answer{}, fmt.Errorf("encoding a public key: %w", err)
	}
	return answer{body: publicReply{der}}, nil
}

func (h *Handler) sign(ctx context.Context, in *signRequest) (answer, error) {
	if err := in.within(authorityPrefix, realmPrefix); err != nil {
		return answer{}, err
	}
	opts, err := in.options()
	if err != nil {
		return answer{}, err
	}
	s, err := h.cfg.Signers.Signer(ctx, in.Label)
	if err != nil {
		return answer{}, err
	}
	id, err := hsm.PublicKeyID(s.Public())
	if err != nil {
		return answer{}, err
	}
	if subtle.ConstantTimeCompare(id, in.ID) != 1 {
		return answer{}, fmt.Errorf("%s is another key here, %X: %w", in.Label, id, hsm.ErrNotFound)
	}
	if err := hsm.CheckDigest(s.Public(), in.Digest, opts); err != nil {
		return answer{}, fmt.Errorf("%w: %w", err, ErrRequest)
	}
	sig, err := s.Sign(rand.Reader, in.Digest, opts)
	return answer{body: signReply{sig}}, err
}

func (h *Handler) generate(ctx context.Context, in *generateRequest) (answer, error) {
	if err := in.within(realmPrefix); err != nil {
		return answer{}, err
	}
	if !in.Algorithm.Valid() {
		return answer{}, fmt.Errorf("algorithm %.20q is none of a key pair: %w", in.Algorithm, ErrRequest)
	}
	s, err := h.cfg.Signers.GenerateSigner(ctx, in.Label, in.Algorithm)
	if err != nil {
		return answer{}, err
	}
	return publicOf(s)
}

func (h *Handler) take(ctx context.Context, in *importRequest) (answer, error) {
	if err := in.within(realmPrefix); err != nil {
		return answer{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(in.Key.Bytes())
	s, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return answer{}, fmt.Errorf("the key is none in PKCS #8: %w", ErrRequest)
	}
	if s, err = h.cfg.Signers.ImportSigner(ctx, in.Label, s); err != nil {
		return answer{}, err
	}
	return publicOf(s)
}

func (h *Handler) destroy(ctx context.Context, in *labelled) (answer, error) {
	if err := in.within(realmPrefix); err != nil {
		return answer{}, err
	}
	return answer{body: none{}}, h.cfg.Signers.DestroySigner(ctx, in.Label)
}
