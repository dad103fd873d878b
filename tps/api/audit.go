package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"

	"inkan/tps/audit"
)

// AuditRecord proves and copies the audit record of a node.
type AuditRecord interface {
	// Prove checks the chain of hashes and all signatures; what it finds wrong wraps
	// audit.ErrTampered.
	Prove(ctx context.Context) (audit.Proof, error)
	// Export writes the record, and the public keys that check it, to a new folder on
	// the node's machine; path is absolute. What is wrong with it is exported too.
	Export(ctx context.Context, path string) (audit.Proof, error)
}

// AuditProof says what is proved about the audit record. Problem is why it is not
// the one that was written; empty: it is.
type AuditProof struct {
	Events      int64    `json:"Events"`
	First       Millis   `json:"First,omitempty"`
	Last        Millis   `json:"Last,omitempty"`
	Head        string   `json:"Head"` // SHA-256 of the last line
	Checkpoints int64    `json:"Checkpoints"`
	Signed      int64    `json:"Signed"` // number of the last event that is signed
	SignedAt    Millis   `json:"SignedAt,omitempty"`
	KIDs        []string `json:"KIDs,omitempty"`
	Doubts      []string `json:"Doubts,omitempty"`
	Unsigned    int64    `json:"Unsigned"` // events behind it: the chain alone covers them
	Torn        int64    `json:"Torn,omitempty"`
	Problem     string   `json:"Problem,omitempty"`
	Path        string   `json:"Path,omitempty"` // of an export
}

// NewAuditProof describes a proof, and the error of making it.
func NewAuditProof(p audit.Proof, err error) AuditProof {
	out := AuditProof{Events: p.Events, First: millis(p.First), Last: millis(p.Last), Head: p.Head, Checkpoints: p.Checkpoints,
		Signed: p.Signed.Seq, SignedAt: millis(p.SignedAt), KIDs: p.KIDs, Doubts: p.Doubts, Unsigned: p.Unsigned, Torn: p.Torn}
	if err != nil {
		out.Problem = err.Error()
	}
	return out
}

func (a *api) proveAudit(c *call) (reply, error) {
	p, err := a.AuditRecord.Prove(c.Context())
	if err != nil && !errors.Is(err, audit.ErrTampered) {
		return reply{}, err
	}
	return reply{body: NewAuditProof(p, err)}, nil
}

func (a *api) exportAudit(c *call) (reply, error) {
	var in struct {
		Path string `json:"Path"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if !filepath.IsAbs(in.Path) {
		return reply{}, badRequest("%q is not an absolute path", in.Path)
	}
	if err := a.intend(c, map[string]string{"op": "export", "path": in.Path}); err != nil {
		return reply{}, err
	}
	p, err := a.AuditRecord.Export(c.Context(), in.Path)
	if err != nil && !errors.Is(err, audit.ErrTampered) {
		return reply{}, err
	}
	out := NewAuditProof(p, err)
	out.Path = in.Path
	return reply{status: http.StatusCreated, body: out}, nil
}
