package server

import (
	"crypto/x509"
	"fmt"
	"os"

	"inkan/cli/config"
	"inkan/tps/piv/attest"
)

// openAttestation reads whose attestations count.
func (n *Node) openAttestation() error {
	v := &attest.Verifier{
		Sets:      []attest.Set{{Name: config.MakerRoots, Chain: makers}},
		Simulated: n.Config.Node.Lab && n.Config.TPS.AllowSimulator,
	}
	for _, s := range n.Config.Attestation.Sets() {
		at := "[attestation]"
		if s.Name != config.SiteRoots {
			at = "[[attestation.set]] " + s.Name + ":"
		}
		roots, err := n.roots(s.Roots, v.Simulated)
		if err != nil {
			return fmt.Errorf("%s roots: %w", at, err)
		}
		between, err := n.roots(s.Intermediates, v.Simulated)
		if err != nil {
			return fmt.Errorf("%s intermediates: %w", at, err)
		}
		v.Sets = append(v.Sets, attest.Set{Name: s.Name, Chain: attest.Roots(roots, between)})
	}
	n.Attest = v
	return nil
}

func (n *Node) roots(files []string, simulated bool) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, f := range files {
		b, err := os.ReadFile(n.path(f))
		if err != nil {
			return nil, err
		}
		cs, err := attest.ParseRoots(b, simulated)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, cs...)
	}
	return all, nil
}
